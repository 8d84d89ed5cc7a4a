"""The models one can talk to: checkpoints of runs, the draft's model, the demo model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tui_trainer.errors import WorkbenchError
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import best_step, find_run, list_checkpoints, list_runs, split_checkpoint
from tui_trainer.tui import format as fmt
from tui_trainer.tui.run_summary import read_config

DEMO_MODEL = "demo:smollm2"
_MOST_RUNS = 30
_MOST_IDEAS = 5
_COMMON_IDEAS = ("Who are you?", "What is the capital of France?", "Write two sentences about the sea.")


def model_options(root: Path, draft_model: str | None) -> list[tuple[str, str, str]]:
    """Reference, line and note of each model: checkpoints of the newest runs, the draft's, what the runs began with."""
    found: list[tuple[str, str, str]] = []
    bases: list[str] = []
    runs = list_runs(root)[:_MOST_RUNS]
    num_named = Counter(run.name for run in runs)
    for run in runs:
        checkpoints, best, base = list_checkpoints(run.layout), best_step(run.layout), base_model(run.layout)
        bases += [base] if base else []
        name = run.name if num_named[run.name] == 1 else run.id
        for checkpoint in reversed(checkpoints):
            words = [fmt.size(checkpoint.bytes)]
            words += ["the newest"] * (checkpoint is checkpoints[-1]) + ["the best"] * (checkpoint.step == best)
            note = f"{', '.join(words)} · {base or 'from scratch'}"
            found.append((f"{run.id}@{checkpoint.step}", f"{name} at step {fmt.count(checkpoint.step)}", note))
    whole = dict.fromkeys(name for name in (draft_model, DEMO_MODEL, *bases) if name)
    notes = {DEMO_MODEL: "SmolLM2-135M-Instruct"} | ({draft_model: "the model of the arguments"} if draft_model else {})
    known = {value for value, _, _ in found}
    found += [(name, name, notes.get(name, "a run began with it")) for name in whole if name not in known]
    return found


def ideas(reference: str, root: Path) -> list[str]:
    """What a model might be asked to begin with: the prompts of the run it comes from, else something common."""
    try:
        layout = find_run(split_checkpoint(reference)[0], root) if reference else None
    except WorkbenchError:
        layout = None
    sampling = _section(layout, "sampling") if layout is not None else {}
    prompts = sampling.get("prompts")
    own = [prompt for prompt in prompts if isinstance(prompt, str)] if isinstance(prompts, list) else []
    return own[:_MOST_IDEAS] or list(_COMMON_IDEAS)


def base_model(layout: RunLayout) -> str | None:
    """The model a run started from, None if it began from nothing or its file cannot be read."""
    name = _section(layout, "model").get("name_or_path")
    return name if isinstance(name, str) else None


def newest_model(layout: RunLayout) -> str | None:
    """The newest checkpoint of a run as a reference, None if it has none yet."""
    checkpoints = list_checkpoints(layout)
    return f"{layout.id}@{checkpoints[-1].step}" if checkpoints else None


def _section(layout: RunLayout, name: str) -> dict[str, Any]:
    """A section of a run's configuration; empty if it has none or cannot be read."""
    section = read_config(layout).get(name)
    return section if isinstance(section, dict) else {}
