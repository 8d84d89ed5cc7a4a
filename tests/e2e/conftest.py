"""Real runs: run directory, supervisor, `accelerate launch`, ranks; on a model that trains in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tui_trainer.config.resolve import Layer, Resolved, Values, resolve, typed_values
from tui_trainer.config.toml import parse_document
from tui_trainer.procs.start import start_run
from tui_trainer.procs.stop import request_stop
from tui_trainer.runs.events import Event, decode
from tui_trainer.runs.journal import read_lines
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import RunStatus, read_status

E = TypeVar("E", bound=Event)

PATIENCE = 240.0

TINY = """
name = "tiny"
[model]
tokenizer_name_or_path = "builtin:bytes"
[model.from_scratch]
model_type = "llama"
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
max_position_embeddings = 256
[data]
path = "demo:dates"
max_length = 128
[training]
use_cpu = true
max_steps = 6
per_device_train_batch_size = 4
learning_rate = 1e-3
train_sampling_strategy = "sequential"
[launch]
num_processes = 1
num_cpu_threads_per_process = 1
"""


def config_of(*assignments: str) -> Resolved:
    """The tiny run with other values."""
    return resolve([Values(Layer.FILE, parse_document(TINY, "tiny.toml")), typed_values(assignments)])


class RealRun:
    """A run that goes on in processes of its own."""

    def __init__(self, layout: RunLayout) -> None:
        self.layout = layout

    @property
    def status(self) -> RunStatus:
        """How it stands."""
        return read_status(self.layout)

    def events(self, kind: type[E]) -> list[E]:
        """Its events of one kind so far."""
        found = (decode(line) for line in read_lines(self.layout.events))
        return [event for event in found if type(event) is kind]

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds of it."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"never happened; {self.status}\n{self.log()}"
            time.sleep(0.1)

    def wait(self) -> RunStatus:
        """Wait for its end."""
        self.wait_until(lambda: self.status.state.is_over)
        return self.status

    def log(self) -> str:
        """The end of its log."""
        return self.layout.train_log.read_text("utf-8", "replace")[-3000:] if self.layout.train_log.exists() else ""


class Runs:
    """Starts real runs below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[RealRun] = []

    def start(self, *assignments: str) -> RealRun:
        """Start the tiny run with other values."""
        run = RealRun(start_run(config_of(*assignments), argv=["a test"], root=self.root))
        self.started.append(run)
        return run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """Real runs, ended when the test is over."""
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TUI_TRAINER_RUNS", str(tmp_path / "runs"))
    runs = Runs(tmp_path / "runs")
    yield runs
    for run in runs.started:
        if not run.status.state.is_over:
            request_stop(run.layout, now=True)
            run.wait()
