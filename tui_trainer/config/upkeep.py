"""The section `[upkeep]`: what a run does by itself for its checkpoints and its health."""

from __future__ import annotations

from typing import ClassVar, Literal

from tui_trainer.config.section import Section, knob

OnNan = Literal["warn", "pause", "stop"]


class _CheckpointUpkeep(Section):
    group: ClassVar[str] = "Checkpoints"

    keep_every_steps: int | None = knob(
        None,
        "Never delete a checkpoint whose step is a multiple of this; training.save_total_limit counts the others.",
        unit="steps",
        ge=1,
    )
    copy_to: str | None = knob(
        None,
        "Folder on another disk into which each checkpoint is copied in the background, as FOLDER/RUN/step-000120. "
        "Copies are never deleted.",
    )


class UpkeepConfig(_CheckpointUpkeep):
    """What the workbench does for a run besides training it."""

    group: ClassVar[str] = "Evaluation and logging"

    on_nan: OnNan = knob(
        "stop",
        "When the loss is NaN or infinite: warn goes on, pause waits for you at once, stop ends the run after three "
        "such steps in a row. No checkpoint is overwritten by such weights.",
    )
