"""The trainer of a run: `transformers.Trainer` with flat batches, exact evaluation, control and safe checkpoints.

Everything the library offers stays as it is; what differs is overridden hook by hook (names and order of transformers
5.23). Made by `engine.train`, the same on every rank.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers.trainer_utils import HubStrategy, SaveStrategy
from transformers.utils import GENERATION_CONFIG_NAME
from typing_extensions import override

from tui_trainer.engine.trainer.checkpoint import Score
from tui_trainer.engine.trainer.evaluation import eval_batches, untouched_randomness
from tui_trainer.engine.trainer.failures import NotANumberError
from tui_trainer.engine.trainer.hub import HubUploads
from tui_trainer.engine.trainer.live import Refused, peak_learning_rate
from tui_trainer.engine.trainer.manifest import verify_checkpoint
from tui_trainer.engine.trainer.measured import MeasuredTrainer
from tui_trainer.engine.trainer.parking import ParkedModel
from tui_trainer.engine.trainer.token_loss import target_weight
from tui_trainer.engine.trainer.tools import RunTools
from tui_trainer.errors import MachineError
from tui_trainer.runs.checkpoint_state import CheckpointState
from tui_trainer.runs.events import Alert


class RunTrainer(MeasuredTrainer):
    """Trains one run.

    Args:
        tools: what it works with.
        eval_collator: makes a batch of evaluation rows.
        named: the arguments of `MeasuredTrainer`.
    """

    def __init__(self, tools: RunTools, eval_collator: Callable[..., dict[str, Any]], **named: Any) -> None:
        super().__init__(tools, **named)
        self.eval_collator = eval_collator
        self._last_metrics: tuple[int, Mapping[str, float]] = (-1, {})
        self._is_staging = False
        self._parked: ParkedModel | None = None
        self._uploads: HubUploads | None = None
        if self.args.push_to_hub and self.is_world_process_zero():
            self._uploads = HubUploads(
                tools.layout,
                tools.events,
                str(self.hub_model_id),
                HubStrategy(self.args.hub_strategy),
                revision=self.args.hub_revision,
                is_insistent=self.args.hub_always_push,
            )

    @property
    def can_evaluate(self) -> bool:
        """Whether there are rows or questions to evaluate on."""
        return bool(self.eval_dataset) or self.can_sample

    @property
    def can_sample(self) -> bool:
        """Whether there are fixed prompts to answer."""
        return bool(self._tools.quiz.prompts)

    @override
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Measure the loss on the held-out rows, ask the quiz, answer the prompts; called by all ranks.

        Returns:
            `eval_loss`, the mean over all trained tokens of all held-out rows whatever the batch size or the number of
            ranks; `eval_exact_match` where the quiz has references; `eval_seconds`.
        """
        started = time.monotonic()
        metrics: dict[str, float] = {}
        self.trained.eval()
        with untouched_randomness(self.args.device):
            if self.eval_dataset:
                metrics["eval_loss"] = self._eval_loss()
            if self._tools.quiz.references:
                metrics["eval_exact_match"] = self._tools.quiz.exact_match(self.trained)
            self._write_samples()
        metrics["eval_seconds"] = round(time.monotonic() - started, 3)
        self._last_metrics = self.state.global_step, metrics
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def write_samples(self) -> None:
        """Answer the fixed prompts now; called by all ranks."""
        self.trained.eval()
        with untouched_randomness(self.args.device):
            self._write_samples()

    def park(self) -> None:
        """Move model and optimiser from the GPU to main memory; called by all ranks.

        Raises:
            Refused: they are there already, or spread over the processes.
        """
        if self.args.device.type == "cpu":
            raise Refused("the model is in main memory already; pause without offload")
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise Refused("the weights are spread over the processes and cannot be moved; pause without offload")
        self._parked = ParkedModel(self.trained, self.optimizer, torch.device("cpu"))

    def unpark(self) -> None:
        """Move them back; called by all ranks."""
        if self._parked is not None:
            self._parked.bring_back()
            self._parked = None

    def _write_samples(self) -> None:
        for sample in self._tools.quiz.samples(self.trained, self.state.global_step):
            self._tools.events.write(sample)

    @torch.no_grad()
    def _eval_loss(self) -> float:
        rows: Any = self.eval_dataset
        batches, num_counted = eval_batches(len(rows), self.args.eval_batch_size, self._tools.group)
        loader = DataLoader(rows, batch_sampler=batches, collate_fn=self.eval_collator)
        total = count = 0.0
        for index, batch in enumerate(loader):
            inputs = self._prepare_inputs(batch)
            num_labels = target_weight(inputs).item()
            with self.compute_loss_context_manager():
                mean = self.compute_loss(self.trained, inputs)
            if index < num_counted and num_labels:
                total, count = total + mean.item() * num_labels, count + num_labels
        total, count_all = self._tools.group.sum([total, count])
        return total / count_all if count_all else float("nan")

    @override
    def _maybe_log_save_evaluate(self, *positional: Any, **named: Any) -> None:
        """Log, evaluate and save what is due; then wait while the run is paused; then see that the end is saved."""
        if self.stop_reason:
            self.control.should_evaluate = False  # whoever stops a run waits for it to be saved, for nothing else
        due = partial(super()._maybe_log_save_evaluate, *positional, **named)
        self._do_and_wait(due)
        if self.control.should_training_stop and not self.is_saved and self.args.save_strategy != SaveStrategy.NO:
            self.control.should_save = True
            self._do_and_wait(due)
        self._window.restart_clock()

    def _do_and_wait(self, due: Callable[[], None]) -> None:
        """Do what is due, and what becomes due while the run is paused; a full disk is waited for even at the end."""
        steering, step = self._tools.steering, self.state.global_step
        due()
        while steering.is_paused and (steering.lacks_space or not self.control.should_training_stop):
            steering.while_paused(self)
            if steering.lacks_space and self._tools.checkpoints.has_room():
                self.control.should_save |= self._tools.checkpoints.lacks_space
                if not self.control.should_save:
                    steering.space_is_back(step)
            due()

    @property
    def is_saved(self) -> bool:
        """Whether the weights as they are now stand in a published checkpoint."""
        return self.has_no_steps_left or self._tools.checkpoints.last_step == self.state.global_step

    @property
    def save_error(self) -> BaseException | None:
        """Why the last save failed, if it did."""
        return self._tools.checkpoints.last_error

    @property
    def stop_reason(self) -> str:
        """Who asked the run to stop before its end; empty if nobody did."""
        return self._tools.steering.stop_reason

    @override
    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Save and publish a checkpoint, or go on without it; called by all ranks."""
        self._settle_tokens()
        checkpoints, step, run_state = self._tools.checkpoints, self.state.global_step, self._run_state()
        if checkpoints.save(step, lambda: self._write_checkpoint(model, trial, run_state), self._score()):
            self._tools.steering.space_is_back(step)
            best = self._tools.group.from_first(checkpoints.best_step)
            self.state.best_model_checkpoint = None if best is None else str(self._tools.layout.checkpoint(best))
            self._send_elsewhere(is_end=self.control.should_training_stop)
        elif checkpoints.lacks_space and not self.stop_reason:
            self._tools.steering.wait_for_space(step, f"the disk is full: checkpoint {step} is not saved")

    def _send_elsewhere(self, *, is_end: bool) -> None:
        """Copy and upload the checkpoint of this step where that is asked for."""
        step = self.state.global_step
        for elsewhere in (self._uploads, self._tools.copies):
            if elsewhere is not None:
                elsewhere.checkpoint_saved(self._tools.layout.checkpoint(step), step, is_end=is_end)

    def _write_checkpoint(self, model: torch.nn.Module, trial: Any, run_state: CheckpointState) -> None:
        """Let the library write its checkpoint, into the staging folder and without rotating."""
        if self._tools.watch.is_bad():
            raise NotANumberError("the loss is not a number")
        best_step, limit = self.state.best_global_step, self.args.save_total_limit
        self.state.best_global_step = self.args.save_total_limit = None  # a barrier and a deletion of the library's
        self.trained.config.use_cache = True  # off while training; whoever loads the checkpoint wants it
        self._is_staging = True
        try:
            super()._save_checkpoint(model, trial)
            if self._tools.group.is_first:
                run_state.write(self._tools.checkpoints.folder(self.state.global_step))
        finally:
            self.state.best_global_step, self.args.save_total_limit = best_step, limit
            self.trained.config.use_cache = self.args.use_cache
            self._is_staging = False

    @override
    def _load_best_model(self) -> None:
        """The weights of the best checkpoint, if its manifest proves it whole; else those of the end stay."""
        best, group = Path(str(self.state.best_model_checkpoint)), self._tools.group
        problems = group.from_first(verify_checkpoint(best) if group.is_first else [])
        if not problems:
            super()._load_best_model()
            return
        self._tools.events.write(
            Alert(
                step=self.state.global_step,
                kind="checkpoint",
                message=f"the best checkpoint, {best.name}, is damaged: {'; '.join(problems[:3])}",
                remedy="The run ends with its last weights instead.",
            )
        )

    def _run_state(self) -> CheckpointState:
        """What the checkpoint of this step holds of the run; called by all ranks."""
        steering, step = self._tools.steering, self.state.global_step
        return replace(
            self._tools.today,
            step=step,
            max_steps=self.state.max_steps,
            world_size=self.args.world_size,
            learning_rate=peak_learning_rate(self),
            position=self.feed.position() if self.feed else None,
            window=self.loss_window(),
            settings=steering.settings,
            commands=tuple(steering.done_at(step)),
        )

    def _score(self) -> Score | None:
        """The evaluation made at this step, by the metric that says what best means."""
        step, metrics = self._last_metrics
        name = self.args.metric_for_best_model or ""
        name = name if name.startswith("eval_") else f"eval_{name}"
        if step != self.state.global_step or name not in metrics:
            return None
        return Score(name, metrics[name], bool(self.args.greater_is_better))

    @override
    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository on the hub, before anything is computed.

        Raises:
            MachineError: the hub does not answer or does not let us.
        """
        try:
            super().init_hf_repo(token, private)
        except Exception as error:  # the hub's client raises errors of many libraries
            raise MachineError(
                f"the repository on the hub cannot be made: {error}",
                where="training.push_to_hub",
                remedy="Log in with `hf auth login` and check the network, or set training.push_to_hub = false.",
            ) from error

    @override
    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing yet: the folder is not published."""

    @override
    def _finish_current_push(self) -> None:
        if self.has_no_steps_left:  # the one before was ended before the checkpoint was there
            self._send_elsewhere(is_end=True)
        for elsewhere in (self._uploads, self._tools.copies):
            if elsewhere is not None:
                elsewhere.finish()

    @override
    def _get_output_dir(self, trial: Any) -> str:
        if self._is_staging:
            return str(self._tools.layout.staging)
        return str(super()._get_output_dir(trial))

    @override
    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save model, tokenizer, template and generation settings; not the pickled arguments, which nobody reads."""
        super()._save(output_dir, state_dict)
        if not self.args.should_save or output_dir is None:
            return
        folder = Path(output_dir)
        (folder / "training_args.bin").unlink(missing_ok=True)
        settings = getattr(self.accelerator.unwrap_model(self.model), "generation_config", None)
        if settings is not None:  # written as it is: an inconsistent setting of the base must not cost a checkpoint
            settings.to_json_file(folder / GENERATION_CONFIG_NAME, use_diff=True)
