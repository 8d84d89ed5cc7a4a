"""What a logout does to runs, by programs that answer as systemd's do; there is no systemd where the tests run."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from tests.procs.conftest import Bench
from tui_trainer.doctor import examine
from tui_trainer.procs.login import logout, scope_of
from tui_trainer.procs.spawn import start_existing
from tui_trainer.procs.stop import wait_until_over
from tui_trainer.runs.status import State, read_status

SYSTEMD_RUN = """\
echo "$@" >> "{folder}/scopes"
[ "$1 $2" = "--user --scope" ] || exit 9
while [ "${{1#--}}" != "$1" ]; do shift; done
exec "$@"
"""


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of a systemd that kills processes at logout; each test may change them."""
    folder = tmp_path / "systemd"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    answer(folder, "busctl", 'echo "b true"')
    answer(folder, "loginctl", "echo Linger=no")
    answer(folder, "systemd-run", SYSTEMD_RUN.format(folder=folder))
    return folder


def answer(folder: Path, program: str, script: str) -> None:
    (folder / program).write_text(f"#!/bin/bash\n{script}\n")
    (folder / program).chmod(stat.S_IRWXU)


def test_without_systemd_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (logout().kills, logout().warning, scope_of("x")) == (None, "", [])


def test_a_machine_that_lets_processes_live(systemd: Path) -> None:
    answer(systemd, "busctl", 'echo "b false"')
    assert (logout().kills, logout().warning, scope_of("x")) == (False, "", [])


@pytest.mark.parametrize(
    ("only", "excluded", "kills"),
    [
        ("as 0", "as 0", True),
        ("as 0", 'as 2 "x y" "{me}"', False),
        ('as 1 "anna"', "as 0", False),
        ('as 1 "{me}"', "as 0", True),
    ],
)
def test_users_that_the_login_manager_spares(systemd: Path, only: str, excluded: str, kills: bool) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    answers = {"KillUserProcesses": "b true", "KillOnlyUsers": only, "KillExcludeUsers": excluded}
    cases = "".join(f"*{name}) echo '{said.format(me=me)}' ;;\n" for name, said in answers.items())
    answer(systemd, "busctl", f'case "$*" in\n{cases}esac')
    assert logout().kills is kills


def test_a_scope_lives_to_the_last_logout(systemd: Path) -> None:
    assert "loginctl enable-linger" in logout().warning
    assert scope_of("a run")[:3] == ["systemd-run", "--user", "--scope"]


def test_with_lingering_a_run_survives(systemd: Path) -> None:
    answer(systemd, "loginctl", "echo Linger=yes")
    assert logout().warning == ""
    assert scope_of("a run")


def test_without_a_user_manager_the_user_is_warned(systemd: Path) -> None:
    answer(systemd, "systemd-run", "echo 'Failed to connect to bus' >&2; exit 1")
    assert "kills a user's processes at logout" in logout().warning
    assert scope_of("a run") == []


def test_a_bus_that_hangs_is_not_waited_for(systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_trainer.procs.login._SECONDS", 0.1)
    answer(systemd, "busctl", "exec sleep 60")
    assert logout().kills is None


def test_doctor_tells_of_it(systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = next(finding for finding in examine().findings if "logout" in finding.what)
    assert found.what == "this machine ends the run at your last logout"
    assert found.remedy == "`loginctl enable-linger` lets it go on."


@pytest.mark.e2e
def test_a_run_is_started_in_a_scope_of_its_own(bench: Bench, systemd: Path) -> None:
    layout = bench.run({"FAKE_STEPS": "3"})
    start_existing(layout)
    assert wait_until_over(layout, 30)
    assert read_status(layout).state is State.FINISHED
    scopes = (systemd / "scopes").read_text().splitlines()
    assert f"--description=tui-trainer run {layout.id} -- " in scopes[-1]
