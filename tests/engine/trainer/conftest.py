"""A tiny run made in this process: byte tokenizer, a Llama of a few thousand parameters, rows of random bytes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from transformers import PreTrainedTokenizerBase, set_seed

from tui_trainer.config.resolve import Layer, Values, resolve, typed_values
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.toml import parse_document
from tui_trainer.engine.data.prepare import PreparedData
from tui_trainer.engine.data.references import EvalReference
from tui_trainer.engine.models.load import load_model_for_training
from tui_trainer.engine.models.tokenizer import load_tokenizer
from tui_trainer.engine.trainer import mailbox
from tui_trainer.engine.trainer.arguments import training_arguments
from tui_trainer.engine.trainer.callbacks import RunEvents
from tui_trainer.engine.trainer.group import Group
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.restart import resume_point
from tui_trainer.engine.trainer.resuming import Resumption
from tui_trainer.engine.trainer.run import conclude, make_trainer, start_facts, state_today
from tui_trainer.engine.trainer.termination import Termination
from tui_trainer.engine.trainer.trainer import RunTrainer
from tui_trainer.runs.events import Event, decode
from tui_trainer.runs.journal import read_lines
from tui_trainer.runs.layout import RunLayout

Row = dict[str, Any]
E = TypeVar("E", bound=Event)

BASE = """
name = "tiny"
[model]
tokenizer_name_or_path = "builtin:bytes"
[model.from_scratch]
model_type = "llama"
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
max_position_embeddings = 256
[data]
path = "unused.jsonl"
max_length = 64
[training]
use_cpu = true
per_device_train_batch_size = 4
learning_rate = 1e-3
max_steps = 6
save_strategy = "no"
train_sampling_strategy = "sequential"
"""


@dataclass
class TinyRun:
    """A run and its trainer, in this process."""

    config: RunConfig
    layout: RunLayout
    events: EventLog
    trainer: RunTrainer
    tokenizer: PreTrainedTokenizerBase
    termination: Termination
    resumption: Resumption | None

    @property
    def model(self) -> Any:
        """The model under training."""
        return self.trainer.trained

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint it goes on from."""
        return str(self.resumption.checkpoint) if self.resumption else None

    def train(self) -> None:
        """Train to the end, as `engine.trainer.run.train_run` does."""
        set_seed(self.config.training.seed)
        self.trainer.train(resume_from_checkpoint=self.checkpoint)
        conclude(self.trainer, self.events, loss=self.trainer.mean_loss, seconds=1.0)

    def written(self, kind: type[E]) -> list[E]:
        """The events of one kind that stand in the file."""
        return [event for event in events_of(self.layout) if type(event) is kind]


def events_of(layout: RunLayout) -> list[Event]:
    """All events of a run."""
    return [event for line in read_lines(layout.events) if (event := decode(line))]


def random_rows(count: int, seed: int = 0, shortest: int = 6, longest: int = 40) -> list[Row]:
    """Rows of random bytes, of which the second half is trained."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        ids = [generator.randrange(256) for _ in range(generator.randint(shortest, longest))]
        half = len(ids) // 2
        rows.append({"input_ids": ids, "labels": [-100] * half + ids[half:]})
    return rows


def padded(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """An ordinary padded batch."""
    width = max(len(row["input_ids"]) for row in rows)
    fill = [width - len(row["input_ids"]) for row in rows]
    return {
        "input_ids": torch.tensor([row["input_ids"] + [256] * n for row, n in zip(rows, fill, strict=True)]),
        "labels": torch.tensor([row["labels"] + [-100] * n for row, n in zip(rows, fill, strict=True)]),
        "attention_mask": torch.tensor([[1] * (width - n) + [0] * n for n in fill]),
    }


class Tiny:
    """Makes tiny runs and what they train on.

    Args:
        root: where their directories go.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    rows = staticmethod(random_rows)

    @staticmethod
    def reference(prompt_ids: list[int], answer: str) -> EvalReference:
        """A question with its answer."""
        return EvalReference(0, prompt_ids, "", [], answer)

    padded = staticmethod(padded)

    def run(
        self,
        *assignments: str,
        rows: Sequence[Row] | None = None,
        data: Any = None,
        eval_rows: Sequence[Row] | None = None,
        references: Sequence[EvalReference] = (),
        directory: str = "run",
        model: torch.nn.Module | None = None,
        fingerprint: str = "f",
    ) -> TinyRun:
        """A run ready to train; in a directory that was used before it is started again."""
        config = resolve([Values(Layer.FILE, parse_document(BASE, "tiny.toml")), typed_values(assignments)]).config
        layout = RunLayout(self._root / directory)
        for folder in (layout.root, layout.control, layout.ranks, layout.checkpoints):
            folder.mkdir(exist_ok=True)
        tokenizer = load_tokenizer(config.model)
        rows = random_rows(24) if rows is None else rows
        fields: dict[str, Any] = {
            "train": rows,
            "eval": eval_rows,
            "collator": padded,
            "eval_collator": padded,
            "fingerprint": fingerprint,
            "num_rows": len(rows),
            "is_weighted": any("loss_weights" in row for row in rows),
            "eval_references": list(references),
        }
        data = data or PreparedData(**fields)
        arguments = training_arguments(config, layout)
        group = Group(0, 1, arguments.device)
        events = EventLog(layout, is_writer=True)
        termination = Termination()
        resumption = resume_point(layout, group, events, state_today(config, data))
        trainer = make_trainer(
            layout,
            config,
            arguments,
            group,
            model or load_model_for_training(config, tokenizer),
            tokenizer,
            data,
            events,
            termination,
            resumption,
        )
        facts = start_facts(trainer, data, group)
        told: dict[str, Any] = {"is_resumed": resumption is not None, "left_out": lambda: data.num_left_out}
        trainer.add_callback(RunEvents(events, facts, lambda: trainer.feed, **told))
        return TinyRun(config, layout, events, trainer, tokenizer, termination, resumption)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """Tiny runs; commands are looked for after every step."""
    monkeypatch.setattr(mailbox, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(mailbox, "TALK_SECONDS", 0.0)
    return Tiny(tmp_path)
