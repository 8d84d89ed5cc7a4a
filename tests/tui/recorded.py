"""Run directories with a history, written through the package's own writers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from tui_trainer.config.resolve import Layer, Values, resolve
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.toml import dump_toml, read_document
from tui_trainer.runs.checkpoint_state import CheckpointState, DataPosition
from tui_trainer.runs.events import (
    CheckpointSaved,
    ControlApplied,
    EvalMetrics,
    RunFinished,
    RunStarted,
    Sample,
    StepMetrics,
)
from tui_trainer.runs.files import read_json, write_json
from tui_trainer.runs.identity import ProcessIdentity
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import RunStatus, State, write_status
from tui_trainer.runs.store import MANIFEST, create

STARTED = 1_795_000_000.0


def record_run(root: Path, name: str, *, steps: int, max_steps: int, state: State = State.RUNNING) -> RunLayout:
    """A run with losses, evaluations, samples, checkpoints, one change by hand, and a log."""
    config = RunConfig.model_validate(
        {"name": name, "model": {"name_or_path": "demo:smollm2"}, "data": {"path": f"demo:{name}"}, "lora": {}}
    )
    made = create(name, dump_toml(config.model_dump()), {}, root=root)
    layout = RunLayout(made.root.rename(root / f"{name}-20261114-093200-{len(name):04x}"))
    write_json(layout.run, {**(read_json(layout.run) or {}), "id": layout.id, "created": STARTED + len(name)})
    with JournalWriter(layout.events) as journal:
        for event in _history(steps, max_steps):
            journal.write(replace(event, t=STARTED + event.step))
        if state is State.FINISHED:
            journal.write(RunFinished(step=steps, loss=1.1, seconds=340.0, t=STARTED + steps))
    layout.train_log.write_text("".join(f"line {number} of the log\n" for number in range(50)), "utf-8")
    process = ProcessIdentity.current()
    write_status(layout, RunStatus(layout.id, state, step=steps, max_steps=max_steps, loss=1.1, process=process))
    return layout


def _history(
    steps: int, max_steps: int
) -> list[RunStarted | StepMetrics | EvalMetrics | Sample | CheckpointSaved | ControlApplied]:
    events: list[RunStarted | StepMetrics | EvalMetrics | Sample | CheckpointSaved | ControlApplied] = [
        RunStarted(
            max_steps=max_steps,
            num_epochs=3,
            num_rows=1273,
            num_trainable_parameters=2_442_240,
            num_parameters=136_957_248,
            world_size=1,
            device="cpu",
            fingerprint="9f3c12ab77",
            row_order={"position": {"num_rows": 1273, "seed": 42}, "batch": 8, "accumulation": 1, "drop_last": False},
        )
    ]
    for step in range(1, steps + 1):
        events.append(_metrics(step, steps, max_steps))
        if step % 250 == 0:
            events.append(EvalMetrics(step=step, extra={"eval_loss": 1.2 + 2 * math.exp(-step / 200)}))
            events.append(
                Sample(step=step, prompt="Who are you?", text="I am Aurora." if step > 500 else "I am Elena.")
            )
        if step % 400 == 0:
            events.append(CheckpointSaved(step=step, path="", bytes=10_000_000, seconds=0.4, is_best=step > 500))
        if step == 300:
            events.append(
                ControlApplied(
                    step=step, command="set", old={"learning_rate": 2e-4}, new={"learning_rate": 1e-4}, by="screen"
                )
            )
    return events


def _metrics(step: int, steps: int, max_steps: int) -> StepMetrics:
    wave = math.sin(step * 12.9898) * 0.08
    spike = 1.5 if step in (steps // 3, steps // 2) else 0.0
    return StepMetrics(
        step=step,
        loss=1.0 + 2.5 * math.exp(-6 * step / steps) + wave + spike,
        learning_rate=2e-4 * min(step / 100, 1) * (1 - step / max_steps),
        grad_norm=1 + wave * 3,
        epoch=3 * step / max_steps,
        tokens_per_second=4211 + wave * 500,
        step_seconds=0.9,
        num_input_tokens=8192 * step,
        memory_bytes=2_400_000_000,
    )


def record_checkpoints(layout: RunLayout, *steps: int, max_steps: int) -> None:
    """Checkpoints of a recorded run, with what a resume has to know and no weights worth the name."""
    config = resolve([Values(Layer.FILE, read_document(layout.config))]).config
    for step in steps:
        folder = layout.checkpoint(step)
        folder.mkdir()
        for name in ("adapter_model.safetensors", "scheduler.pt", "rng_state.pth"):
            (folder / name).write_text(name)
        state = CheckpointState(
            step=step,
            max_steps=max_steps,
            config=config.model_dump(mode="json"),
            learning_rate=1e-4,
            settings={"learning_rate": 1e-4},
            position=DataPosition(epoch=1, num_done=step, num_rows=1273, seed=42),
        )
        state.write(folder)
        files = {path.name: {"bytes": path.stat().st_size} for path in folder.iterdir()}
        write_json(folder / MANIFEST, {"version": 1, "step": step, "files": files})
