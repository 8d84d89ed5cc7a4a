"""A trainer that counts what it does: the loss of a step and its labels, tokens, seconds, floating point operations.

Base of `engine.trainer.trainer.RunTrainer`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from typing_extensions import override

from tui_trainer.engine.data.example import LOSS_WEIGHTS
from tui_trainer.engine.trainer.movable import MovableTrainer
from tui_trainer.engine.trainer.token_loss import LEAST_WEIGHT, check_weighable, summed_loss, target_weight
from tui_trainer.engine.trainer.tools import RunTools
from tui_trainer.engine.trainer.watch import Window, peak_memory

_KEPT_LOGS = 100
"""Log entries kept in `trainer_state.json`; the event file holds all of them."""


class MeasuredTrainer(MovableTrainer):
    """Computes and counts the steps of a run.

    Args:
        tools: what it works with.
        is_weighted: some labels may weigh more or less than others; the same on all ranks.
        named: the arguments of `ResumableTrainer` but its group.
    """

    def __init__(self, tools: RunTools, *, is_weighted: bool = False, **named: Any) -> None:
        super().__init__(tools.group, **named)
        self._tools = tools
        self._is_weighted = is_weighted
        self._window = Window()
        self._window_tokens = 0
        self._num_flop_parameters = int(self.trained.num_parameters(exclude_embeddings=True))

    @property
    def trained(self) -> Any:
        """The model, adapter included, which the library's annotations hold for possibly missing."""
        return self.model

    @property
    def window(self) -> Window:
        """What was counted since the last log entry."""
        return self._window

    @override
    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The batches of a step; counts how long they are waited for."""
        return super().get_batch_samples(self._timed(epoch_iterator), num_batches, device)

    def _timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            started = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._window.add_waiting(time.monotonic() - started)
            yield batch

    @override
    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """One forward and backward pass; counts its tokens and looks at its loss."""
        mask = None if "target_positions" in inputs else inputs.get("attention_mask")
        self._window.add_tokens(inputs["input_ids"].numel() if mask is None else mask.sum())
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._tools.watch.add(loss)
        return loss

    @override
    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch; for a flat one logits are made only where a label asks for them."""
        if "target_positions" not in inputs and LOSS_WEIGHTS not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if LOSS_WEIGHTS in inputs:
            check_weighable(self.accelerator.unwrap_model(model))
        loss, outputs = summed_loss(model, inputs, self.args.label_smoothing_factor)
        if num_items_in_batch is None:
            loss = loss / target_weight(inputs).clamp(min=LEAST_WEIGHT)
        else:
            loss = loss / torch.as_tensor(num_items_in_batch, device=loss.device).clamp(min=LEAST_WEIGHT)
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    @override
    def _get_num_items_in_batch(
        self, batch_samples: list[dict[str, Any]], device: torch.device
    ) -> torch.Tensor | int | None:
        """What the labels of an update weigh together, on all ranks; without weights, their number."""
        if not (self._is_weighted and self.model_accepts_loss_kwargs and batch_samples):
            return super()._get_num_items_in_batch(batch_samples, device)
        total = torch.stack([target_weight(batch).float() for batch in batch_samples]).sum().to(device)
        is_shared = self.args.average_tokens_across_devices and self.args.world_size > 1
        return self.accelerator.gather(total).sum() if is_shared else total

    @override
    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Floating point operations of a forward and backward pass, 6 a parameter and token."""
        return 6 * int(inputs["input_ids"].numel()) * self._num_flop_parameters

    @override
    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with tokens, speed and memory where there is a training loss; called by all ranks."""
        if "loss" in logs:
            self._settle_tokens()
            num_steps, seconds = self._window.take_time()
            logs["num_input_tokens"] = self.state.num_input_tokens_seen
            logs["tokens_per_second"] = self._window_tokens / max(seconds, 1e-9)
            logs["step_seconds"] = seconds / max(num_steps, 1)
            logs["data_seconds"] = self._window.take_waiting() / max(num_steps, 1)
            logs["memory_bytes"] = peak_memory(self.args.device)
            self._window_tokens = 0
        super().log(logs, start_time)
        del self.state.log_history[:-_KEPT_LOGS]

    def _settle_tokens(self) -> None:
        """Add what all ranks counted to the state of the run."""
        num_tokens = int(self._tools.group.sum([self._window.take_tokens()])[0])
        self.state.num_input_tokens_seen += num_tokens
        self._window_tokens += num_tokens
