"""The section `[training]`: the fields of `transformers.TrainingArguments`, and those the workbench keeps to itself."""

from __future__ import annotations

from typing import Any

from tui_trainer.config.loop import CheckpointFields, EvaluationFields, HubFields, ParallelFields
from tui_trainer.config.optimisation import BatchFields, OptimiserFields, PrecisionFields, ScheduleFields


class TrainingConfig(
    HubFields,
    CheckpointFields,
    EvaluationFields,
    ParallelFields,
    PrecisionFields,
    ScheduleFields,
    OptimiserFields,
    BatchFields,
):
    """Every `TrainingArguments` field by its own name, except those in `RESERVED`."""

    def to_training_arguments(self) -> dict[str, Any]:
        """Keyword arguments for `transformers.TrainingArguments`; fields nobody set to anything are left out."""
        arguments = {name: value for name, value in self.model_dump().items() if value is not None}
        for name in ("max_steps", "ddp_timeout"):
            arguments[name] = int(arguments[name])
        return arguments


RESERVED: dict[str, str] = {
    "output_dir": "the run directory decides where things are written",
    "run_name": "set the top-level name instead",
    "hub_token": "a token never belongs in a file; use `hf auth login` or HF_TOKEN",
    "resume_from_checkpoint": "use `tui-trainer train --resume RUN`",
    "disable_tqdm": "progress is shown from the run's events",
    "logging_nan_inf_filter": "it is off, so that a NaN is seen at its own step",
    "include_num_input_tokens_seen": "tokens are always counted",
    "enable_jit_checkpoint": "a stop request saves at a step boundary on all ranks instead",
    "remove_unused_columns": "the data path hands over exactly the columns the model takes",
    "label_names": "the labels are always called labels",
    "length_column_name": "lengths are known from the prepared data",
    "do_train": "the command decides",
    "do_eval": "set training.eval_strategy",
    "do_predict": "the command decides",
    "local_rank": "accelerate decides",
    "log_on_each_node": "rank 0 writes the events",
    "parallelism_config": "set [launch], training.fsdp or training.deepspeed",
    "include_for_metrics": "it has no effect here",
    "batch_eval_metrics": "it has no effect here",
    "prediction_loss_only": "evaluation returns the loss and generated answers, never logits",
    "eval_do_concat_batches": "it has no effect here",
    "eval_use_gather_object": "it has no effect here",
}
"""Fields of `TrainingArguments` that a configuration may not set, with the reason shown to whoever tries."""
