"""Who may import whom: the contracts of `pyproject.toml`, and what really gets loaded in a fresh interpreter.

The contracts read the import graph and cannot tell an import at the top of a module from one inside the function that
needs it. The fresh interpreter runs the real thing and looks at `sys.modules`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter import cli as importlinter_cli

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "datasets", "accelerate", "peft", "tokenizers", "numpy", "pyarrow", "pandas"}


def _loaded_after(code: str) -> set[str]:
    """The top-level modules loaded after running `code` in a fresh interpreter."""
    program = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_import_contracts_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    exit_code = importlinter_cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert exit_code == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    "module",
    [
        "tui_trainer.cli",
        "tui_trainer.cli.app",
        "tui_trainer.tui.app",
        "tui_trainer.tui.screens.data",
        "tui_trainer.tui.screens.args",
        "tui_trainer.tui.screens.train",
        "tui_trainer.tui.screens.chat",
        "tui_trainer.tui.screens.runs",
        "tui_trainer.procs.worker",
        "tui_trainer.procs.start",
        "tui_trainer.config.schema",
    ],
)
def test_the_front_end_loads_nothing_heavy(module: str) -> None:
    assert _loaded_after(f"import {module}") & HEAVY == set()


def test_the_data_worker_starts_without_torch() -> None:
    loaded = _loaded_after("import tui_trainer.engine.servers.data")
    assert loaded & {"torch", "transformers", "datasets", "accelerate", "peft", "pandas"} == set()


def test_the_supervisor_loads_the_standard_library_only() -> None:
    code = "import tui_trainer.procs.supervisor"
    own = {name for name in _loaded_after(code) - _loaded_after("pass") if "." not in name}
    foreign = own - set(sys.stdlib_module_names) - {"tui_trainer"}
    assert {name for name in foreign if not name.startswith("_")} == set()


def test_the_root_module_imports_nothing_of_ours() -> None:
    loaded = {name for name in _loaded_after("import tui_trainer") if name.startswith("tui_trainer")}
    assert loaded == {"tui_trainer"}


def test_the_front_end_stays_small() -> None:
    assert len(_loaded_after("import tui_trainer.tui.app, tui_trainer.tui.screens.train")) < 700


def test_nothing_calls_a_widget_from_a_thread() -> None:
    sources = {path: path.read_text("utf-8") for path in (ROOT / "tui_trainer").rglob("*.py")}
    assert [str(path) for path, text in sources.items() if "call_from_thread" in text] == []
