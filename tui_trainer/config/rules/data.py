"""Rules for `[data]` and what is evaluated on it."""

from __future__ import annotations

from collections.abc import Iterator

from tui_trainer.config.derive import batches_per_epoch
from tui_trainer.config.launch import num_processes
from tui_trainer.config.rules.facts import Facts, error, warning
from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import Problem

_PREFERENCES = ("preference", "kto")
_CONVERSATIONS = ("messages", "sharegpt", "alpaca", "prompt_completion")


def source(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Where the rows come from."""
    data = config.data
    if data.path is None and not data.sources:
        yield error("data.path", "no data is named", 'name a file, a folder, a hub id or "demo:chat"', "data.sources")
    if data.path is not None and data.sources:
        yield error(
            "data.path",
            "stands beside [[data.sources]], and only one of them can be read",
            "make it one of the sources, or remove them",
            "data.sources",
        )
    for number, each in enumerate(data.sources):
        if each.path is None:
            yield error(f"data.sources.{number}.path", "no data is named", "name a file, a folder or a hub id")


def streaming(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """What rows that are read as training goes cannot do."""
    if not config.data.streaming:
        return
    if config.training.max_steps <= 0:
        yield error(
            "training.max_steps",
            "is needed with data.streaming: nobody knows where an epoch ends",
            "set the number of updates",
            "data.streaming",
        )
    if isinstance(config.data.eval_split, float):
        yield error(
            "data.eval_split",
            "a share cannot be cut off rows that are streamed",
            "name a split or a file",
            "data.streaming",
        )
    if config.training.dataloader_num_workers > 0:
        yield warning(
            "training.dataloader_num_workers",
            "has no effect with data.streaming: the process that trains reads its rows itself",
            "leave it out",
            "data.streaming",
        )


def order(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Orders of the rows that have no effect."""
    strategy = config.training.train_sampling_strategy
    if strategy not in ("group_by_length", "batch_rebalance"):
        return
    for key, is_set, why in (
        ("data.streaming", config.data.streaming, "lengths of streamed rows are not known"),
        ("data.packing", config.data.packing, "packed rows are all of the same length"),
    ):
        if is_set:
            yield warning(
                "training.train_sampling_strategy", f"{strategy} has no effect: {why}", 'set it to "random"', key
            )


def stage(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Whether the rows are what the stage learns from."""
    data, formats = config.data, {config.data.format, *(each.format for each in config.data.sources)}
    preferences = sorted(formats & set(_PREFERENCES))
    if preferences and config.stage == "pretrain":
        yield error(
            "data.format", f"{preferences[0]} rows are no plain text", 'set stage = "sft", or other data', "stage"
        )
    elif preferences and config.stage == "sft" and not data.allow_preference_as_sft:
        yield error(
            "data.format",
            f"{preferences[0]} rows have answers to be avoided too",
            "set data.allow_preference_as_sft = true to learn the preferred ones",
            "data.allow_preference_as_sft",
        )
    conversations = sorted(formats & set(_CONVERSATIONS))
    if conversations and config.stage == "pretrain":
        yield error(
            "data.format", f"pretrain learns from plain text, not {conversations[0]} rows", 'set "text"', "stage"
        )
    if config.stage == "pretrain" and data.train_on == "last":
        yield warning("data.train_on", "has no effect: pretrain learns from all tokens", "leave it out", "stage")
    if config.stage == "pretrain" and data.template is not None:
        yield warning("data.template", "has no effect: plain text has no turns", "leave it out", "stage")
    if formats == {"text"} and config.stage == "sft":
        yield warning(
            "stage",
            "plain text has no answers to learn, all of it is trained on",
            'set stage = "pretrain"',
            "data.format",
        )
    if data.truncation == "split" and config.stage == "sft":
        yield error(
            "data.truncation",
            "a conversation cannot be split into pieces",
            'set "right", "left", "drop" or "error", or stage = "pretrain"',
            "stage",
        )


def evaluation(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Whether there is something to evaluate on, and whether it is evaluated."""
    data, training, sampling = config.data, config.training, config.sampling
    if isinstance(data.eval_split, float) and not 0 < data.eval_split < 1:
        yield error(
            "data.eval_split", f"is {data.eval_split:g}, but a share lies between 0 and 1", "set 0.1 for a tenth"
        )
    has_data, is_evaluated = data.eval_split is not None, training.eval_strategy != "no" or training.eval_on_start
    if is_evaluated and not has_data and not sampling.prompts:
        key = "training.eval_strategy" if training.eval_strategy != "no" else "training.eval_on_start"
        yield error(
            key, "there is nothing to evaluate on", "set data.eval_split or sampling.prompts", "data.eval_split"
        )
    if sampling.num_exact_match and not has_data:
        yield error(
            "sampling.num_exact_match", "needs rows to compare with", "set data.eval_split, or 0", "data.eval_split"
        )
    if sampling.num_exact_match and config.stage == "pretrain":
        yield error("sampling.num_exact_match", "plain text has no reference answers", "set it to 0", "stage")
    if not is_evaluated:
        for name, is_set in (
            ("data.eval_split", has_data),
            ("sampling.prompts", bool(sampling.prompts)),
            ("sampling.num_exact_match", bool(sampling.num_exact_match)),
        ):
            if is_set:
                yield warning(
                    name,
                    "is set, but the run never evaluates",
                    'set training.eval_strategy = "steps" or "epoch"',
                    "training.eval_strategy",
                )


def size(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether there are rows enough for a batch."""
    rows, training = facts.num_train_rows, config.training
    if rows is None or config.data.streaming:
        return
    processes = num_processes(config, facts.num_gpus or 0)
    effective = training.per_device_train_batch_size * training.gradient_accumulation_steps * processes
    if batches_per_epoch(training, rows, processes) == 0:
        yield error(
            "training.dataloader_drop_last",
            f"{rows} rows make no whole batch, so nothing is left to train on",
            "set it to false, or a smaller batch",
            "training.per_device_train_batch_size",
        )
    elif rows < effective:
        yield warning(
            "training.per_device_train_batch_size",
            f"the effective batch of {effective} is larger than the {rows} rows",
            "set a smaller batch or less accumulation",
            "training.gradient_accumulation_steps",
        )


RULES = (source, streaming, order, stage, evaluation, size)
