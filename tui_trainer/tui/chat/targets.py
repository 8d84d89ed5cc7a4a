"""The models one can talk to: checkpoints of runs, the draft's model, the demo model."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import list_checkpoints, list_runs
from tui_trainer.tui import format as fmt

DEMO_MODEL = "demo:smollm2"
_MOST_RUNS = 30


def model_options(root: Path, draft_model: str | None) -> Iterator[tuple[str, str, str]]:
    """Reference, line and note of each model, checkpoints of the newest runs first."""
    for run in list_runs(root)[:_MOST_RUNS]:
        checkpoints = list_checkpoints(run.layout)
        for checkpoint in reversed(checkpoints):
            is_last = checkpoint is checkpoints[-1]
            newest = ", the newest" if is_last else ""
            note = f"{fmt.size(checkpoint.bytes)}{newest} · {base_model(run.layout) or 'from scratch'}"
            yield f"{run.id}@{checkpoint.step}", f"{run.name} at step {fmt.count(checkpoint.step)}", note
    if draft_model and "@" not in draft_model:
        yield draft_model, draft_model, "the model of the arguments"
    if draft_model != DEMO_MODEL:
        yield DEMO_MODEL, DEMO_MODEL, "SmolLM2-135M-Instruct"


def base_model(layout: RunLayout) -> str | None:
    """The model a run started from, None if it began from nothing or its file cannot be read."""
    try:
        model = tomllib.loads(layout.config.read_text("utf-8")).get("model", {})
    except (OSError, ValueError):
        return None
    name = model.get("name_or_path") if isinstance(model, dict) else None
    return name if isinstance(name, str) else None


def newest_model(layout: RunLayout) -> str | None:
    """The newest checkpoint of a run as a reference, None if it has none yet."""
    checkpoints = list_checkpoints(layout)
    return f"{layout.id}@{checkpoints[-1].step}" if checkpoints else None
