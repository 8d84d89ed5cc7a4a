"""The whole configuration of a run, `RunConfig`; `resolve` makes it from files, `engine` and `launch` read it."""

from __future__ import annotations

from typing import ClassVar, Literal

from tui_trainer.config.data import DataConfig
from tui_trainer.config.launch_section import LaunchConfig
from tui_trainer.config.model import LoraConfig, ModelConfig
from tui_trainer.config.sampling import SamplingConfig
from tui_trainer.config.section import Section, knob
from tui_trainer.config.training import TrainingConfig
from tui_trainer.config.upkeep import UpkeepConfig


class RunConfig(Section):
    """What a run is asked to do. Frozen: a change makes a new one."""

    group: ClassVar[str] = "Run"

    name: str = knob(
        "run",
        "Name of the run, as it stands in the table of runs.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        form="at most 64 letters, digits, dots, dashes and underscores, a letter or digit first",
    )
    stage: Literal["pretrain", "sft", "reward", "dpo", "kto", "orpo", "grpo"] = knob(
        "sft", "pretrain learns from plain text, sft from prompts with answers. The others need the extra `preference`."
    )
    model: ModelConfig = knob(factory=ModelConfig)
    data: DataConfig = knob(factory=DataConfig)
    lora: LoraConfig | None = knob(None, "Present: train an adapter. Absent: train all weights.")
    training: TrainingConfig = knob(factory=TrainingConfig)
    upkeep: UpkeepConfig = knob(factory=UpkeepConfig)
    launch: LaunchConfig = knob(factory=LaunchConfig)
    sampling: SamplingConfig = knob(factory=SamplingConfig)
