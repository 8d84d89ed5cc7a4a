"""`transformers.Trainer` that goes on exactly where a checkpoint was left, and where the configuration now says.

The library restores weights, optimiser, scheduler and random numbers. It counts batches to find its place in the data,
which fits only the same batches on the same number of ranks; draws some orders from the random numbers of the model;
and ignores a new learning rate, shape or interval. Here the position is a number of rows (`engine.trainer.feed`), and
what the configuration changed takes effect. The base of `engine.trainer.trainer.RunTrainer`; names and order of the
hooks are those of transformers 5.23.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed
from transformers.trainer import FSDP_MODEL_NAME, SCHEDULER_NAME
from transformers.trainer_utils import seed_worker
from typing_extensions import override

from tui_trainer.config.derive import resumed_max_steps
from tui_trainer.engine.trainer.feed import Feed, Share, Stream
from tui_trainer.engine.trainer.group import Group
from tui_trainer.errors import RefusedError
from tui_trainer.runs.checkpoint_state import CheckpointState, DataPosition, LossWindow

ORDER_KEYS = frozenset({"training.seed", "training.data_seed", "training.train_sampling_strategy"})
"""What the order of the rows follows from."""

_SCHEDULE_KEYS = frozenset(
    f"training.{name}"
    for name in (
        "learning_rate",
        "lr_scheduler_type",
        "lr_scheduler_kwargs",
        "warmup_steps",
        "max_steps",
        "num_train_epochs",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
    )
)
_OPTIMISER_KEYS = frozenset({"training.optim", "training.optim_args", "training.optim_target_modules"})
_GROUP_OPTIONS = {
    "training.weight_decay": "weight_decay",
    "training.adam_beta1": "betas",
    "training.adam_beta2": "betas",
    "training.adam_epsilon": "eps",
}
_ORDERS = ("random", "sequential", "group_by_length")


@dataclass(frozen=True)
class Resumption:
    """The checkpoint a run goes on from, and what is different now.

    Attributes:
        checkpoint: its folder.
        state: where the run stood then.
        changed: dotted keys whose values in the configuration are others than then.
        has_other_rows: the rows are not those of the checkpoint, and are begun from the first.
        is_finished: the run came to the end of its training before.
    """

    checkpoint: Path
    state: CheckpointState
    changed: Collection[str] = field(default_factory=frozenset)
    has_other_rows: bool = False
    is_finished: bool = False

    def settings(self) -> Mapping[str, Any]:
        """The fields that commands had set and the configuration did not change since."""
        overruled = {key.removeprefix("training.") for key in self.changed}
        return {name: value for name, value in self.state.settings.items() if name not in overruled}


class ResumableTrainer(Trainer):
    """Places rows, schedule and random numbers of a run that goes on.

    Args:
        group: the ranks.
        resumption: what it goes on from; None for a run from its beginning.
        named: the arguments of `transformers.Trainer`.

    Attributes:
        feed: hands out the rows; None where the library does, because ranks share batches in ways of its own.
        has_no_steps_left: the checkpoint was written after the last step, by a run that was ended before its last word.
    """

    def __init__(self, group: Group, resumption: Resumption | None = None, **named: Any) -> None:
        super().__init__(**named)
        self._group = group
        self._resumption = resumption
        self._loss_before = 0.0
        self._planned_steps = 0
        self.feed: Feed | None = None
        self.has_no_steps_left = False
        self.callback_handler.callbacks.insert(0, _Progress(self))

    @property
    def resumption(self) -> Resumption | None:
        """What the run goes on from."""
        return self._resumption

    # Rows

    @override
    def get_train_dataloader(self) -> DataLoader[Any]:
        """This rank's batches, from the position on."""
        strategy = str(self.args.train_sampling_strategy)
        is_shared_otherwise = getattr(self.accelerator, "parallelism_config", None) is not None
        if is_shared_otherwise or (strategy not in _ORDERS and not isinstance(self.train_dataset, Stream)):
            self.feed = None
            return super().get_train_dataloader()
        share = self._share()
        self.feed = Feed(
            self.train_dataset, self._position(share), share, drop_last=bool(self.args.dataloader_drop_last)
        )
        return self.feed.loader(
            self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            in_order=self.args.dataloader_in_order,
            worker_init_fn=_WorkerSeed(self.args.dataloader_num_workers, self.args.process_index),
        )

    def _share(self) -> Share:
        num_rows = self._train_batch_size
        if getattr(self.args.accelerator_config, "split_batches", False):
            num_rows //= self.args.world_size
        fills_masked = bool(self.model_accepts_loss_kwargs and self.args.average_tokens_across_devices)
        return Share(self.args.process_index, self.args.world_size, num_rows, fills_masked)

    def _position(self, share: Share) -> DataPosition:
        is_stream = isinstance(self.train_dataset, Stream)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        fresh = DataPosition(
            num_rows=0 if is_stream else len(self.train_dataset),  # type: ignore[arg-type]
            strategy=str(self.args.train_sampling_strategy),
            seed=seed,
            group_size=share.num_rows * self.args.gradient_accumulation_steps,
        )
        before = self._resumption.state.position if self._resumption else None
        if self._resumption is None or before is None or self._resumption.has_other_rows:
            return fresh
        if self.args.ignore_data_skip:
            before = replace(before, num_done=0, stream=None)
        if ORDER_KEYS & set(self._resumption.changed):
            return replace(before, strategy=fresh.strategy, seed=fresh.seed)
        return before

    @override
    def set_initial_training_values(
        self, args: TrainingArguments, dataloader: DataLoader[Any]
    ) -> tuple[int, int, int, int, int, int | None, int]:
        """The library's numbers; those of a run that goes on follow from the rows that are left."""
        epochs, per_epoch, *others, in_epoch, max_steps = super().set_initial_training_values(args, dataloader)
        left = self.feed.num_batches_left if self.feed else None
        if self._resumption is not None and self.feed is not None and left is not None:
            updates_left = math.ceil(left / args.gradient_accumulation_steps)
            step, epoch = self._resumption.state.step, self.feed.first_epoch
            max_steps = resumed_max_steps(
                args.max_steps,
                args.num_train_epochs,
                step=step,
                epoch=epoch,
                updates_left=updates_left,
                updates_per_epoch=per_epoch,
            )
            if args.max_steps > 0:
                epochs = epoch + 1 + math.ceil(max(max_steps - step - updates_left, 0) / per_epoch)
        self._planned_steps = max_steps
        num_examples, num_samples, total = others
        return epochs, per_epoch, num_examples, num_samples, total, in_epoch, max_steps

    @override
    def _init_training_state(self, max_steps: int, *positional: Any) -> tuple[int, int]:
        """The library's state; epoch and intervals as they are to be now."""
        epochs, num_skipped = super()._init_training_state(max_steps, *positional)
        if self._resumption is not None:
            state: Any = self.state
            state.compute_steps(self.args, max_steps)
            self.has_no_steps_left = self.state.global_step >= max_steps
            if self.has_no_steps_left and self._resumption.is_finished:
                raise RefusedError(
                    f"the run has done all its {max_steps} steps",
                    where="training.max_steps",
                    remedy="Resume it with a higher training.max_steps or training.num_train_epochs.",
                )
        if self.has_no_steps_left:
            return sys.maxsize, 0  # an epoch that does not come: the library goes on to the end of the training
        return (self.feed.first_epoch, 0) if self.feed else (epochs, num_skipped)

    @override
    def _run_epoch(self, **named: Any) -> None:  # type: ignore[override]
        """One pass over the rows; over those that are left, in the epoch in which the run goes on."""
        if self.feed is not None:
            self.feed.begin(named["epoch"])
            accumulation, left = self.args.gradient_accumulation_steps, self.feed.num_batches_left
            if left is None:
                left = max(self.state.max_steps - self.state.global_step, 1) * accumulation
            named |= {"steps_in_epoch": left, "num_update_steps_per_epoch": math.ceil(left / accumulation)}
        library: Any = super()
        library._run_epoch(**named)

    @override
    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """One forward and backward pass; counts its batch."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.feed is not None:
            self.feed.batch_done()
        return loss

    @override
    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | int | None:
        """The labels of a step, at least one, so that a step without any has the loss 0 and not NaN."""
        count = super()._get_num_items_in_batch(batch_samples, device)
        return count.clamp(min=1) if isinstance(count, torch.Tensor) else count and max(count, 1)

    # Random numbers, optimiser, schedule

    @override
    def _load_rng_state(self, checkpoint: str | None) -> None:
        """This rank's random numbers; a rank that was not there then gets its own, the same at every resume."""
        if self._resumption is None:
            return
        rank, size = self.args.process_index, self.args.world_size
        name = f"rng_state_{rank}.pth" if size > 1 else "rng_state.pth"
        if (self._resumption.checkpoint / name).is_file():
            super()._load_rng_state(checkpoint)
        else:
            set_seed(self.args.seed + self._resumption.state.step * size + rank + 1)

    @override
    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Optimiser and scheduler of the checkpoint, with what the configuration changed since."""
        if self._resumption is None or checkpoint is None:
            return
        changed, state = set(self._resumption.changed), self._resumption.state
        assert self.optimizer is not None
        options = [{**group, "params": None} for group in self.optimizer.param_groups]
        last_epoch = state.step
        if not changed & _OPTIMISER_KEYS:
            super()._load_optimizer_and_scheduler(checkpoint)
            last_epoch = getattr(self.lr_scheduler, "last_epoch", last_epoch)
        for key, name in _GROUP_OPTIONS.items():
            if key in changed:
                for group, option in zip(self.optimizer.param_groups, options, strict=True):
                    group[name] = option[name]
        if changed & (_SCHEDULE_KEYS | _OPTIMISER_KEYS) or state.world_size != self.args.world_size:
            # "lr" is the rate of the warm-up's first step by now
            self._place_schedule(last_epoch, [float(option.get("initial_lr", option["lr"])) for option in options])

    def _place_schedule(self, num_updates: int, rates: list[float]) -> None:
        """Make the scheduler anew, as if it had made its updates already.

        Args:
            num_updates: updates that it counted.
            rates: the configured peak of each group of weights.
        """
        assert self._resumption is not None
        assert self.optimizer is not None
        before = self._resumption.state.learning_rate
        factor = 1.0
        if "training.learning_rate" not in self._resumption.changed and before is not None:
            factor = before / self.args.learning_rate if self.args.learning_rate else 1.0
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = group["initial_lr"] = rate * factor
        self.lr_scheduler = None
        scheduler: Any = self.create_scheduler(self._planned_steps)
        if isinstance(scheduler, LambdaLR):
            scheduler.last_epoch = num_updates
            scheduler._step_count = num_updates + 1
            for group, base, shape in zip(
                self.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
            ):
                group["lr"] = base * shape(num_updates)
            scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    # Losses that wait for the next log entry

    def restore_losses(self) -> None:
        """Take over the losses that were not logged when the checkpoint was written."""
        window = self._resumption.state.window if self._resumption else None
        if window is None or not window.sums:
            return
        is_same = len(window.sums) == self.args.world_size
        own = window.sums[self.args.process_index] if is_same else sum(window.sums) / len(window.sums)
        self._tr_loss += own
        self._globalstep_last_logged = window.since
        self._loss_before = window.total

    def loss_window(self) -> LossWindow:
        """The losses that are not logged yet; called by all ranks."""
        own = [0.0] * self.args.world_size
        own[self.args.process_index] = self._tr_loss.item()
        total = self._loss_before + self._total_loss_scalar
        return LossWindow(self._globalstep_last_logged, tuple(self._group.sum(own)), total)

    @property
    def mean_loss(self) -> float:
        """Mean loss of all steps of the run, those before a resume among them."""
        return (self._loss_before + self._total_loss_scalar) / max(self.state.global_step, 1)


class _Progress(TrainerCallback):
    """Counts epochs in rows, whatever the batches; stands before the callbacks that read the count."""

    def __init__(self, trainer: ResumableTrainer) -> None:
        self._trainer = trainer

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._trainer.feed is not None:
            done = self._trainer.feed.epochs_done()
            state.epoch = state.global_step / max(state.max_steps, 1) if done is None else done


class _WorkerSeed:
    """Seeds a process that loads rows, as the library does."""

    def __init__(self, num_workers: int, rank: int) -> None:
        self._num_workers, self._rank = num_workers, rank

    def __call__(self, worker: int) -> None:
        seed_worker(worker, num_workers=self._num_workers, rank=self._rank)


def has_optimiser(checkpoint: Path) -> bool:
    """Whether a checkpoint holds what is needed to go on, not only the weights."""
    return (checkpoint / SCHEDULER_NAME).is_file()


def is_of_fsdp(checkpoint: Path) -> bool:
    """Whether a checkpoint was written under FSDP, in whose own files weights and optimiser can only be read again."""
    return any(checkpoint.glob(f"{FSDP_MODEL_NAME}*"))


def is_of_deepspeed(checkpoint: Path) -> bool:
    """Whether a checkpoint was written under DeepSpeed, which reads no other."""
    return any(checkpoint.glob("global_step*"))
