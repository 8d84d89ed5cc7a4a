"""`tui-trainer runs clone`: what was chosen for a run, as a file to start from again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import CONFIG, Call, made_run
from tui_trainer.config.load import load_config
from tui_trainer.config.resolve import Layer, Values, resolve
from tui_trainer.config.toml import dump_toml, parse_document
from tui_trainer.errors import ExitCode
from tui_trainer.procs.orders import LaunchOrder
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State

MORE = """\
[lora]
[[data.sources]]
path = "rows.jsonl"
weight = 2.0
[[data.sources]]
path = "there/is-none"
"""


def whole(text: str) -> str:
    """The configuration as a run writes it, with every default."""
    return dump_toml(resolve([Values(Layer.FILE, parse_document(text, "a.toml"))]).config.model_dump(mode="json"))


@pytest.fixture
def run(store: Path) -> RunLayout:
    return made_run(store, "trial", State.FINISHED, config=whole(CONFIG))


def test_only_what_was_chosen_is_printed(call: Call, run: RunLayout) -> None:
    printed = call("runs", "clone", "trial")
    assert printed.code == ExitCode.DONE
    assert printed.out.startswith(f"# The configuration of the run {run.id}\n")
    assert tomllib.loads(printed.out) == {
        "name": "trial",
        "stage": "sft",
        "model": {"name_or_path": "somewhere"},
        "data": {"path": "rows.jsonl"},
        "training": {"max_steps": 100000, "save_steps": 1000, "learning_rate": 1e-4},
    }


def test_a_file_that_trains_the_same(call: Call, run: RunLayout, tmp_path: Path) -> None:
    file = tmp_path / "again.toml"
    printed = call("runs", "clone", run.id, "--out", str(file), "--set", "learning_rate=3e-4", "--set", "name=second")
    assert (printed.code, printed.out) == (ExitCode.DONE, "")
    assert f"tui-trainer train {file}" in printed.err
    again, before = load_config(str(file)).config, load_config(str(run.config)).config
    assert (again.name, again.training.learning_rate) == ("second", 3e-4)
    changed = {"training": before.training.model_copy(update={"learning_rate": 3e-4}), "name": "second"}
    assert again == before.model_copy(update=changed)


def test_nothing_is_written_over_and_nothing_wrong_is_written(call: Call, run: RunLayout, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("mine")
    assert call("runs", "clone", run.id, "--out", str(file)).code == ExitCode.REFUSED
    assert file.read_text() == "mine"
    printed = call("runs", "clone", run.id, "--out", str(tmp_path / "new.toml"), "--set", "learning_rate=fast")
    assert printed.code == ExitCode.USAGE
    assert "learning_rate" in printed.err
    assert not (tmp_path / "new.toml").exists()
    assert call("runs", "clone", "nobody").code == ExitCode.USAGE


def test_json(call: Call, run: RunLayout, tmp_path: Path) -> None:
    document = call("runs", "clone", run.id, "--json").json()
    assert (document["version"], document["run"], document["file"]) == (1, run.id, None)
    assert tomllib.loads(document["toml"]) == document["config"]
    assert document["config"]["training"]["max_steps"] == 100000


def test_what_lay_beside_the_run_is_found_from_elsewhere(
    call: Call, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, there / "validation", here):
        folder.mkdir()
    (there / "rows.jsonl").touch()
    (there / "own.jinja").touch()
    text = whole(
        'name = "moved"\n[model]\nname_or_path = "somewhere"\n'
        '[data]\neval_split = "validation"\ntemplate = "own.jinja"\n' + MORE
    )
    layout = made_run(store, "moved", State.FINISHED, config=text)
    LaunchOrder(("true",), cwd=str(there)).write(layout)
    monkeypatch.chdir(here)
    document = call("runs", "clone", layout.id, "--json", "--set", "data.packing=true").json()["config"]
    assert document["data"]["sources"] == [
        {"path": str(there / "rows.jsonl"), "weight": 2.0},
        {"path": "there/is-none"},
    ]
    assert document["data"]["template"] == str(there / "own.jinja")
    assert (document["data"]["eval_split"], document["data"]["packing"]) == ("validation", True)
    assert document["model"]["name_or_path"] == "somewhere"
    assert document["lora"] == {"r": 16}
    typed = call("runs", "clone", layout.id, "--json", "--set", "data.template=own.jinja").json()["config"]
    assert typed["data"]["template"] == "own.jinja"
    monkeypatch.chdir(there)
    assert call("runs", "clone", layout.id, "--json").json()["config"]["data"]["template"] == "own.jinja"
