"""The command line as a whole: what a word means, exit codes, errors as sentences, and what the help costs."""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tui_trainer import __version__
from tui_trainer.cli import app
from tui_trainer.cli.names import COMMANDS
from tui_trainer.errors import ExitCode, MachineError

HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "peft",
    "tokenizers",
    "numpy",
    "pyarrow",
    "textual",
    "pydantic",
}


def test_version(call: Call) -> None:
    assert call("--version").out.strip() == __version__


@pytest.mark.parametrize("words", [["--help"], ["--runs", "x", "--help"]])
def test_help_lists_every_command(call: Call, words: list[str]) -> None:
    printed = call(*words)
    assert printed.code == 0
    for command in COMMANDS:
        assert f" {command} " in printed.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(call: Call, command: str) -> None:
    printed = call(command, "--help")
    assert printed.code == 0
    assert f"tui-trainer {command}" in printed.out


def test_help_loads_nothing_heavy_and_no_command() -> None:
    code = "import sys; from tui_trainer.cli.app import run; run(['--help'])\nprint('MODULES', *sorted(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = set(output.rpartition("MODULES")[2].split())
    assert not {name.partition(".")[0] for name in modules} & (HEAVY - {"pydantic"})
    assert not {f"tui_trainer.cli.{command}" for command in COMMANDS} & modules
    assert "tui_trainer.config" not in modules


def cpu_seconds(words: list[str], num_rounds: int = 3) -> float:
    """Least processor time of a few runs of a command."""
    best = float("inf")
    for _ in range(num_rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def test_help_costs_less_than_0_3_seconds() -> None:
    assert cpu_seconds(["-m", "tui_trainer", "--help"]) - cpu_seconds(["-c", "pass"]) < 0.3


@pytest.mark.parametrize(
    ("words", "rewritten", "name"),
    [
        ([], ["workbench"], "workbench"),
        (["runs"], ["runs"], "runs"),
        (["--runs", "d", "train", "x"], ["--runs", "d", "train", "x"], "train"),
        (["--runs=d", "a.toml"], ["--runs=d", "workbench", "a.toml"], "workbench"),
        (["--runs", "train"], ["--runs", "train", "workbench"], "workbench"),
        (["--runs"], ["--runs"], ""),
        (["./demo"], ["workbench", "./demo"], "workbench"),
        (["--", "demo"], ["workbench", "--", "demo"], "workbench"),
        (["workbench"], ["workbench", "workbench"], "workbench"),
    ],
)
def test_the_first_word_is_a_command_or_something_to_open(words: list[str], rewritten: list[str], name: str) -> None:
    assert app._with_command(words) == (rewritten, name)


def test_the_workbench_gets_its_target(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui_trainer.cli import workbench as opening
    from tui_trainer.tui import app as workbench

    opened: list[str | None] = []

    def run(target: str | None, **_: object) -> int:
        opened.append(target)
        return 0

    monkeypatch.setattr(workbench, "run", run)
    monkeypatch.setattr(opening, "_has_terminal", lambda: True)
    for words in ([], ["a.toml"], ["--", "demo"]):
        assert call(*words).code == 0
    assert opened == [None, "a.toml", "demo"]
    assert gc.isenabled()


def test_the_workbench_needs_a_terminal(call: Call) -> None:
    printed = call("a.toml")
    assert printed.code == ExitCode.USAGE
    assert "needs a terminal" in printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "x.toml"], "unexpected extra argument"),
        (["trian"], "Did you mean `tui-trainer train`?"),
        (["--nonsense"], "no such option: --nonsense"),
        (["train"], "missing argument 'CONFIG'"),
        (["train", "x.toml", "--sett", "a=1"], "no such option"),
        (["runs", "explode"], "no such command 'explode'"),
        (["runs", "log", "x", "--lines", "many"], "'--lines'"),
    ],
)
def test_wrong_usage_is_a_sentence_and_exit_code_2(call: Call, words: list[str], message: str) -> None:
    printed = call(*words)
    assert printed.code == ExitCode.USAGE
    assert message in printed.err
    assert printed.out == ""


def test_a_run_that_is_called_like_a_misspelt_command_can_be_opened(call: Call, tmp_path: Path) -> None:
    (tmp_path / "trian").mkdir()
    assert "needs a terminal" in call("trian").err


def failing(error: BaseException) -> object:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_an_error_is_a_sentence_with_its_remedy(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    error = MachineError("the disk \x1b[31mis full", where="/a/b", remedy="Free [bold]space[/]")
    monkeypatch.setattr("tui_trainer.doctor.examine", failing(error))
    printed = call("doctor")
    assert printed.code == ExitCode.LACKING
    assert printed.err == "error: /a/b: the disk ␛[31mis full\nFree [bold]space[/]\n"


def test_with_json_an_error_is_an_object_on_stderr_and_stdout_stays_data(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui_trainer.doctor.examine", failing(MachineError("no disk", remedy="buy one")))
    printed = call("doctor", "--json")
    assert printed.out == ""
    assert json.loads(printed.err) == {
        "error": {"kind": "MachineError", "what": "no disk", "where": "", "remedy": "buy one", "exit_code": 3}
    }


def test_a_bug_is_one_sentence_and_its_details_lie_in_a_private_file(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = "hf_canary0123456789canary"
    monkeypatch.setattr("tui_trainer.doctor.examine", failing(ZeroDivisionError(f"with {secret} \x1b]52;c;x\x07")))
    printed = call("doctor")
    assert printed.code == ExitCode.FAILED
    assert "this is a bug in tui-trainer: ZeroDivisionError" in printed.err
    assert "Traceback" not in printed.err
    assert "\x1b" not in printed.err
    (log,) = (tmp_path / "home" / "state" / "crashes").iterdir()
    assert "Traceback" in log.read_text()
    assert secret not in printed.err + log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    assert str(log) in printed.err.replace("\n", "")


def test_a_bug_where_nothing_can_be_written_is_still_a_sentence(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_trainer.doctor.examine", failing(ZeroDivisionError()))
    monkeypatch.setenv("TUI_TRAINER_HOME", "/proc/nowhere")
    assert "this is a bug" in call("doctor").err


def test_an_interruption_is_exit_code_130(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_trainer.doctor.examine", failing(KeyboardInterrupt()))
    assert call("doctor").code == ExitCode.INTERRUPTED


def test_a_reader_that_has_enough_is_no_error(store: Path) -> None:
    command = f"{sys.executable} -m tui_trainer doctor | true; echo ${{PIPESTATUS[0]}}"
    printed = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "0"
    assert printed.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_that_lacks_signs_ends_nothing(encoding: str, store: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "tui_trainer", "--help"]
    assert subprocess.run(command, capture_output=True, env=environment, check=False).returncode == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tui-trainer tr", {"train", "trust"}),
        ("tui-trainer runs s", {"show", "set", "save", "sample", "stop"}),
        ("tui-trainer train --d", {"--detach", "--dry-run"}),
    ],
)
def test_shells_complete_commands_and_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, words: set[str]
) -> None:
    monkeypatch.setattr(app, "COMMANDS", {"train": "", "runs": ""})
    monkeypatch.setenv("_TUI_TRAINER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    with pytest.raises(SystemExit) as ended:
        app.run([])
    assert ended.value.code == 0
    assert set(capsys.readouterr().out.split()) == words
