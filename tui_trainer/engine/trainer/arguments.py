"""From a run's configuration to `transformers.TrainingArguments`: the user's fields and what the workbench decides."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import TrainingArguments

from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import ConfigurationError
from tui_trainer.runs.layout import RunLayout

_FIXED: dict[str, Any] = {
    "disable_tqdm": True,
    "logging_nan_inf_filter": False,
    "include_num_input_tokens_seen": "no",
    "remove_unused_columns": False,
    "label_names": ["labels"],
    "prediction_loss_only": True,
    "enable_jit_checkpoint": False,
}
"""Fields of `config.training.RESERVED`: progress comes from events, NaN is shown, tokens are counted by us, the data
path hands over exactly what the model takes, and a signal is answered at a step boundary on all ranks."""


def training_arguments(config: RunConfig, layout: RunLayout) -> TrainingArguments:
    """The arguments of a run; joins the process group as a side effect, as the library does.

    Args:
        config: the configuration.
        layout: the run, whose directory is the output directory.

    Raises:
        ConfigurationError: the library refuses a value, or there is nothing to evaluate on.
    """
    fields = config.training.to_training_arguments() | _FIXED
    fields |= {"output_dir": str(layout.root), "run_name": config.name}
    if config.training.activation_checkpointing_kwargs:
        # without it torch would take the former variant, which neither adapters nor several processes always bear
        again = {"use_reentrant": False, **config.training.activation_checkpointing_kwargs}
        fields["activation_checkpointing_kwargs"] = again
    if config.launch.mixed_precision is not None:
        fields |= {"bf16": config.launch.mixed_precision == "bf16", "fp16": config.launch.mixed_precision == "fp16"}
    if config.data.eval_split is not None:
        fields.setdefault("metric_for_best_model", "eval_loss")
    elif config.training.eval_strategy != "no" and not config.sampling.prompts:
        raise ConfigurationError(
            "there is nothing to evaluate on",
            where="training.eval_strategy",
            remedy='Set data.eval_split or sampling.prompts, or training.eval_strategy = "no".',
        )
    try:
        arguments = TrainingArguments(**fields)
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigurationError(
            f"transformers refuses the arguments: {error}", where="training", remedy="Change the field it names."
        ) from error
    _keep_outputs(arguments)
    if arguments.device.type == "cpu":
        arguments.dataloader_pin_memory = False  # there is nothing to copy to, and torch warns at every loader
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process drives one GPU; DataParallel would take all and change the batch size
    return arguments


def _keep_outputs(arguments: TrainingArguments) -> None:
    """Let FSDP hand out what the model returns in the type that has.

    accelerate's own policy rounds it to the 16 bits of the computation, the loss too: a curve in steps of a hundredth.
    """
    plugin = arguments.fsdp_plugin_args
    dtype = torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else None
    if plugin and plugin["fsdp_version"] == 2 and dtype is not None:
        plugin["mixed_precision_policy"] = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=dtype)
