"""A run from its configuration to its end: data, model, trainer, training, last word. Called by `engine.train`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainingArguments, set_seed
from transformers.trainer_utils import SaveStrategy

from tui_trainer.config.schema import RunConfig
from tui_trainer.config.training import TrainingConfig
from tui_trainer.engine.data.prepare import PreparedData, prepare_data
from tui_trainer.engine.data.templates.library import find_template
from tui_trainer.engine.data.verdict import needing_yes
from tui_trainer.engine.models.adapter import base_of
from tui_trainer.engine.models.load import load_model_for_training
from tui_trainer.engine.models.spread import whole_size
from tui_trainer.engine.models.stop_tokens import stop_token_ids
from tui_trainer.engine.models.tokenizer import load_tokenizer
from tui_trainer.engine.report import Report
from tui_trainer.engine.threads import watch_crowd
from tui_trainer.engine.trainer.after_step import AfterStep
from tui_trainer.engine.trainer.alerts import RunAlerts
from tui_trainer.engine.trainer.arguments import training_arguments
from tui_trainer.engine.trainer.callbacks import RunEvents
from tui_trainer.engine.trainer.checkpoint import Checkpoints
from tui_trainer.engine.trainer.command_log import CommandLog
from tui_trainer.engine.trainer.common_disk import common_layout
from tui_trainer.engine.trainer.copies import CheckpointCopies
from tui_trainer.engine.trainer.devices import check_devices
from tui_trainer.engine.trainer.failures import DiskFullError, NotANumberError, is_disk_full
from tui_trainer.engine.trainer.flat import FlatCollator, is_exact, why_not_flat
from tui_trainer.engine.trainer.group import Group
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.left_out import LeftOutRows
from tui_trainer.engine.trainer.mailbox import Mailbox
from tui_trainer.engine.trainer.quiz import Quiz
from tui_trainer.engine.trainer.restart import resume_point
from tui_trainer.engine.trainer.resuming import Resumption
from tui_trainer.engine.trainer.steering import Steering
from tui_trainer.engine.trainer.termination import Termination
from tui_trainer.engine.trainer.tools import RunTools
from tui_trainer.engine.trainer.trainer import RunTrainer
from tui_trainer.engine.trainer.watch import LossWatch
from tui_trainer.errors import ConfigurationError, RefusedError, RunFailedError
from tui_trainer.runs.checkpoint_state import CheckpointState
from tui_trainer.runs.data_consent import DataConsent
from tui_trainer.runs.events import Alert, RunFinished, RunStopped
from tui_trainer.runs.files import write_json
from tui_trainer.runs.layout import RunLayout


def train_run(
    layout: RunLayout,
    config: RunConfig,
    events: EventLog,
    termination: Termination,
    report: Report,
    *,
    began: float,
) -> None:
    """Train; called on every rank.

    Args:
        layout: the run directory.
        config: its configuration.
        events: where rank 0 tells what happens.
        termination: what SIGTERM asked.
        report: progress before the first step.
        began: monotonic time at which this rank began.

    Raises:
        WorkbenchError: the run cannot begin, or cannot go on.
    """
    watch_crowd()
    check_devices(config)
    arguments = training_arguments(config, layout)
    group = Group(arguments.process_index, arguments.world_size, arguments.device)
    layout = common_layout(layout, config, group)
    with arguments.main_process_first(desc="the model"):
        tokenizer = load_tokenizer(config.model, report)
    data = prepare_data(config, tokenizer, report)
    resumption = resume_point(layout, group, events, state_today(config, data))
    if group.is_first:
        write_json(layout.data, data.summary)
    if resumption is None:
        check_consent(data.summary["verdict"], DataConsent.read(layout), layout)
    _use_template(tokenizer, config)
    with arguments.main_process_first(desc="the model"):
        model = load_model_for_training(config, tokenizer, report)
    if resumption is None:
        tell_doubts(data.summary["verdict"], events)
    trainer = make_trainer(layout, config, arguments, group, model, tokenizer, data, events, termination, resumption)
    facts = start_facts(trainer, data, group)
    is_resumed, left_out = resumption is not None, lambda: data.num_left_out
    feed = lambda: trainer.feed  # noqa: E731 - it is made when the training begins
    trainer.add_callback(RunEvents(events, facts, feed, is_resumed=is_resumed, left_out=left_out))
    set_seed(arguments.seed)  # the measurements above must not shift the random numbers of the training
    termination.is_training = True
    trainer.train(resume_from_checkpoint=str(resumption.checkpoint) if resumption else None)
    if group.is_first:
        keep_left_out(data, layout)
    conclude(trainer, events, loss=trainer.mean_loss, seconds=time.monotonic() - began)
    group.leave()
    trainer.accelerator.end_training()


def check_consent(verdict: Mapping[str, Any], consent: DataConsent, layout: RunLayout) -> None:
    """See that somebody said yes to lost answers, dropped content and mismatches in the data of a run that begins.

    Raises:
        RefusedError: nobody did.
    """
    missing = consent.missing(needing_yes(verdict))
    if missing:
        found = "; ".join(problem["message"] for problem in verdict["problems"] if problem["code"] in missing)
        raise RefusedError(
            f"the data needs a yes before it is trained on: {found}",
            where=layout.id,
            remedy="Mend it (`tui-trainer check` says how), or start the run with `tui-trainer train --force`, "
            "or from the Args screen, if it is meant.",
        )


def tell_doubts(verdict: Mapping[str, Any], events: EventLog) -> None:
    """Tell what is lost or other than meant in the data of a run that begins all the same."""
    for problem in verdict["problems"]:
        if problem["severity"] == "error":
            events.write(Alert(kind="data", message=f"data: {problem['message']}", remedy=problem["remedy"]))


def keep_left_out(data: PreparedData, layout: RunLayout) -> None:
    """Write into the run's data.json how many rows of a stream were left out, as `num_left_out`."""
    if data.num_left_out is not None:
        write_json(layout.data, {**data.summary, "num_left_out": data.num_left_out})


def _use_template(tokenizer: PreTrainedTokenizerBase, config: RunConfig) -> None:
    """Let the tokenizer carry the template that the run trains with, so that its checkpoints are asked in that form."""
    if config.data.template is not None:
        template = find_template(config.data.template, tokenizer.chat_template, tokenizer.special_tokens_map)
        tokenizer.chat_template = template.text if template else None


def make_trainer(
    layout: RunLayout,
    config: RunConfig,
    arguments: TrainingArguments,
    group: Group,
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    data: PreparedData,
    events: EventLog,
    termination: Termination,
    resumption: Resumption | None = None,
) -> RunTrainer:
    """The trainer of a run, with all its parts."""
    base = base_of(model)
    stops = list(stop_token_ids(base, tokenizer))
    if base.generation_config is not None:
        base.generation_config.eos_token_id = stops
    mailbox = Mailbox(layout, group, termination, events.outdated)
    tools = RunTools(
        layout=layout,
        events=events,
        group=group,
        steering=Steering(mailbox, events, CommandLog(layout, group), config.upkeep.on_nan),
        checkpoints=_checkpoints(layout, config, group, events, model),
        copies=_copies(layout, config, group, events),
        watch=LossWatch(is_deferred=arguments.device.type != "cpu"),
        quiz=Quiz(
            config,
            tokenizer,
            data.eval_references[: config.sampling.num_exact_match],
            stop_token_ids=stops,
            context_length=getattr(base.config.get_text_config(), "max_position_embeddings", None),
            group=group,
            is_sharded=_is_sharded(config),
        ),
        today=state_today(config, data),
    )
    arguments.eval_on_start = arguments.eval_on_start and resumption is None
    trainer = RunTrainer(
        tools,
        resumption=resumption,
        model=model,
        args=arguments,
        train_dataset=data.train,
        eval_dataset=data.eval if data.eval is not None else [] if config.sampling.prompts else None,
        data_collator=data.collator,
        eval_collator=data.eval_collator,
        is_weighted=data.is_weighted,
        processing_class=tokenizer,
        callbacks=[RunAlerts(events, layout, tools.checkpoints), LeftOutRows(data, events)],
    )
    trainer.add_callback(AfterStep(trainer, tools))
    trainer.remove_callback(PrinterCallback)
    if (reason := _flatten(trainer, config)) and config.data.packing:
        _check_packing(trainer, config, reason)
    return trainer


def state_today(config: RunConfig, data: PreparedData) -> CheckpointState:
    """What a checkpoint holds of a run that does not change while it goes on."""
    return CheckpointState(
        fingerprint=data.fingerprint,
        tokenizer=str(data.summary.get("tokenizer") or ""),
        config=config.model_dump(mode="json"),
    )


def _flatten(trainer: RunTrainer, config: RunConfig) -> str:
    """Let the trainer use flat batches if they are exact; returns why not, if not."""
    base = base_of(trainer.trained)
    reason = why_not_flat(base, config.data.max_length)
    if _is_sharded(config):
        reason = "the weights are spread over the processes"
    elif config.training.torch_compile or config.training.use_liger_kernel:
        reason = "the model is compiled or has fused kernels"
    elif not reason and not is_exact(base, trainer.args.device):
        reason = "the model carries something from one sequence to the next"
    if not reason:
        trainer.data_collator = trainer.eval_collator = FlatCollator()
    return reason


def _check_packing(trainer: RunTrainer, config: RunConfig, reason: str) -> None:
    """Refuse packing where one example would see another.

    Raises:
        ConfigurationError: the model mixes packed examples.
    """
    if _is_sharded(config):
        return
    base = base_of(trainer.trained)
    # flash attention has no kernel for float32 weights but in the precision of the training
    needs_half = "flash" in str(base.config._attn_implementation)
    with trainer.accelerator.autocast() if needs_half else nullcontext():
        is_alike = is_exact(base, trainer.args.device, split=False)
    if not is_alike:
        raise ConfigurationError(
            f"packing would let the examples of a row see each other with this model: {reason}",
            where="data.packing",
            remedy="Set data.packing = false.",
        )


def _is_sharded(config: RunConfig) -> bool:
    """Whether weights are spread over the processes, by the configuration or by what accelerate was told."""
    told = (os.environ.get(f"ACCELERATE_USE_{name}", "") for name in ("FSDP", "DEEPSPEED"))
    return bool(config.training.fsdp or config.training.deepspeed) or "true" in [word.lower() for word in told]


def _checkpoints(
    layout: RunLayout, config: RunConfig, group: Group, events: EventLog, model: torch.nn.Module
) -> Checkpoints:
    return Checkpoints(
        layout,
        group,
        events,
        keep=config.training.save_total_limit,
        keep_every=config.upkeep.keep_every_steps,
        expected_bytes=_checkpoint_bytes(model, config.training),
    )


def _copies(layout: RunLayout, config: RunConfig, group: Group, events: EventLog) -> CheckpointCopies | None:
    place = config.upkeep.copy_to
    return CheckpointCopies(layout, events, Path(place)) if place is not None and group.is_first else None


def _checkpoint_bytes(model: torch.nn.Module, training: TrainingConfig) -> int:
    """About how large a checkpoint is: the saved weights, and two numbers of the same type for each trained one.

    FSDP saves what is trained a second time.
    """
    sizes = [(whole_size(weight) * weight.element_size(), weight.requires_grad) for weight in model.parameters()]
    trained = sum(size for size, is_trained in sizes if is_trained)
    saved = trained if isinstance(model, PeftModel) else sum(size for size, _ in sizes)
    return saved if training.save_only_model else saved + (3 if training.fsdp else 2) * trained


def start_facts(trainer: RunTrainer, data: PreparedData, group: Group) -> dict[str, Any]:
    """The fields of `RunStarted` that are known before the first step."""
    weights: Sequence[torch.nn.Parameter] = list(trainer.trained.parameters())
    return {
        "num_rows": data.num_rows,
        "num_parameters": sum(whole_size(weight) for weight in weights),
        "num_trainable_parameters": sum(whole_size(weight) for weight in weights if weight.requires_grad),
        "world_size": group.size,
        "device": str(trainer.args.device),
        "fingerprint": data.fingerprint,
    }


def conclude(trainer: RunTrainer, events: EventLog, *, loss: float, seconds: float) -> None:
    """The last word of a run that came to its end, or to the end it was asked for.

    Raises:
        WorkbenchError: its end could not be saved.
    """
    stop_reason = trainer.stop_reason
    step = trainer.state.global_step
    if not trainer.is_saved and (stop_reason or trainer.args.save_strategy != SaveStrategy.NO):
        _raise_unsaved(trainer.save_error)
    if stop_reason:
        events.write(RunStopped(step=step, reason=stop_reason), durable=True)
    else:
        events.write(RunFinished(step=step, loss=loss, seconds=round(seconds, 3)), durable=True)


def _raise_unsaved(error: BaseException | None) -> None:
    if isinstance(error, NotANumberError):
        raise error
    what = f"the training is done, but its end could not be saved: {error}"
    if error is not None and is_disk_full(error):
        raise DiskFullError(what) from error
    raise RunFailedError(what, remedy="Start the run again from its last checkpoint.") from error
