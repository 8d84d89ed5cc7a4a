"""The outside world of the app for its tests: workers with canned answers, a machine that stands still."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui_trainer.config.resolve import Resolved
from tui_trainer.config.shape import shape_from_config
from tui_trainer.config.toml import dump_toml
from tui_trainer.errors import WorkbenchError
from tui_trainer.procs.machine import MachineReading
from tui_trainer.procs.resume import ResumeTarget
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import create
from tui_trainer.tui.services import Services

from .fake_chat import FakeChatWorker

OnItem = Callable[[Any], None] | None
NUM_ROWS = 1273
SPECIAL_IDS = [0, 1, 2]
PROBLEM_ROWS = [17, 801]


def tokens_of(row: int) -> list[tuple[str, int, bool]]:
    """Text, id and whether it is trained, of each token of a row."""
    question = [f" word{number}" for number in range(20 + row % 7)]
    answer = [" the", " answer", " is", f" {row}"]
    texts = [
        "<|im_start|>",
        "user",
        "\n",
        *question,
        "<|im_end|>",
        "\n",
        "<|im_start|>",
        "assistant",
        "\n",
        *answer,
        "<|im_end|>",
    ]
    first_trained = len(texts) - len(answer) - 1
    return [(text, 3 + len(text) * 7 if text[0] != "<" else 1, at >= first_trained) for at, text in enumerate(texts)]


def _found(row: int, query: dict[str, Any]) -> dict[str, Any] | None:
    text = query.get("text", "")
    cell = f"question {row} of the set"
    return (
        {"column": "input", "text": cell, "start": cell.index(text), "end": cell.index(text) + len(text)}
        if text
        else None
    )


class FakeDataWorker:
    """Answers as the data worker does, from `tokens_of`."""

    def __init__(self) -> None:
        self.pid: int | None = 1
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.problems: list[dict[str, Any]] = [
            {
                "code": "answer_cut",
                "severity": "warning",
                "count": 2,
                "rows": PROBLEM_ROWS,
                "message": "the answer is cut",
                "title": "with a cut answer",
                "remedy": "Raise data.max_length.",
            }
        ]
        self.blocks_launch = False
        self.is_judged = False
        self.evil = ""
        self.sample_extras: dict[str, Any] = {}
        self.open_gate: asyncio.Event | None = None
        self.count_gate: asyncio.Event | None = None
        self.verdict_gate: asyncio.Event | None = None
        self.error: WorkbenchError | None = None

    async def call(self, method: str, params: dict[str, Any], on_item: OnItem = None) -> Any:
        self.calls.append((method, params))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        gate: asyncio.Event | None = getattr(self, f"{method}_gate", None)
        if gate is not None:
            if method == "count" and on_item is not None:
                on_item({"task": "counting", "done": 500, "total": None})
            await gate.wait()
        return getattr(self, f"_{method}")(params)

    def _open(self, params: dict[str, Any]) -> dict[str, Any]:
        features = {f"input{self.evil}": "string", "output": "string"}
        splits = {
            "train": {"num_rows": NUM_ROWS, "features": features},
            "test": {"num_rows": 255, "features": features},
        }
        return {
            "sources": [{"path": params["config"]["data"]["path"] or "mix", "splits": splits}],
            "split": "train",
            "features": features,
            "num_rows": None if self.count_gate else NUM_ROWS,
            "num_rows_at_least": 100,
            "format": "prompt_completion",
            "confidence": 0.98,
            "columns": {"prompt": f"input{self.evil}", "completion": "output"},
            "fingerprint": "9f3c12ab77",
        }

    def _count(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"num_rows": NUM_ROWS}

    def _rows(self, params: dict[str, Any]) -> dict[str, Any]:
        shown = self.rows_of(params["query"])
        cells = [
            {
                "row": row,
                "cells": {
                    f"input{self.evil}": f"{self.evil}question {row} of the set",
                    "output": f"the answer is {row}",
                },
                "num_tokens": len(tokens_of(row)) if self.is_judged else None,
                "num_trained": 5 if self.is_judged else None,
                "problems": ["answer_cut"] if self.is_judged and row in PROBLEM_ROWS else [],
                "found": _found(row, params["query"]),
            }
            for row in shown[params["start"] : params["stop"]]
        ]
        return {"rows": cells, "num_rows": len(shown)}

    def rows_of(self, query: dict[str, Any]) -> list[int]:
        """The rows that fit a query."""
        rows = [row for row in range(NUM_ROWS) if query.get("text", "") in f"question {row} of the set"]
        if query.get("problem"):
            rows = [row for row in rows if row in PROBLEM_ROWS]
        rows = [row for row in rows if len(tokens_of(row)) >= (query.get("min_tokens") or 0)]
        return sorted(rows, key=lambda row: -len(tokens_of(row))) if query.get("order") == "longest" else rows

    def _select(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"num_rows": len(self.rows_of(params["query"]))}

    def _find(self, params: dict[str, Any]) -> dict[str, Any]:
        rows, direction = self.rows_of(params["query"]), params["direction"]
        fitting = {
            0: [row for row in rows if row == params["row"]],
            1: [row for row in rows if row > params["row"]][:1],
            -1: [row for row in rows if row < params["row"]][-1:],
        }[direction]
        row = fitting[0] if fitting else None
        return {"row": row, "line": None if row is None else rows.index(row), "is_complete": True}

    def _sample(self, params: dict[str, Any]) -> dict[str, Any]:
        tokens = tokens_of(params["row"])
        first = next(at for at, (_, _, trained) in enumerate(tokens) if trained)
        text = [self.evil + text for text, _, _ in tokens]
        return {
            "row": params["row"],
            "piece": params.get("piece", 0),
            "where": f"medqa.jsonl:{params['row'] + 1}",
            "num_tokens": len(tokens),
            "first": 0,
            "input_ids": [identifier for _, identifier, _ in tokens],
            "tokens": text,
            "special_ids": SPECIAL_IDS,
            "template": {"name": f"chatml{self.evil}", "source": "model", "hash": "abcd"},
            "spans": [
                {"start": 0, "end": first, "trained": False, "role": "user", "text": "".join(text[:first])},
                {
                    "start": first,
                    "end": len(tokens),
                    "trained": True,
                    "role": "assistant",
                    "text": "".join(text[first:]),
                },
            ],
            "raw": f'{{"input": "{self.evil}question {params["row"]} of the set"}}',
            "problems": [{"code": self.evil, "message": self.evil}] if self.evil else [],
            **self.sample_extras,
        }

    def _templates(self, params: dict[str, Any]) -> dict[str, Any]:
        found = [("", "model"), ("chatml", "builtin"), ("plain", "builtin"), ("qwen3", "package"), ("none", "none")]
        return {"templates": [{"name": name, "source": source} for name, source in found]}

    def _sample_as(self, params: dict[str, Any]) -> dict[str, Any]:
        sample = self._sample(params)
        return {**sample, "tokens": [f"<{params['template']}>", *sample["tokens"][1:]]}

    def _columns(self, params: dict[str, Any]) -> dict[str, Any]:
        paths = ["input", "output", "meta", "meta.answer"]
        return {
            "format": "prompt_completion",
            "columns": {"prompt": "input", "completion": "output"},
            "formats": {
                "text": {"required": ["text"], "optional": []},
                "prompt_completion": {"required": ["prompt", "completion"], "optional": ["system"]},
            },
            "paths": [{"path": path, "type": "string", "example": f"{self.evil}what is in {path}"} for path in paths],
        }

    def _step_rows(self, params: dict[str, Any]) -> dict[str, Any]:
        first = 8 * params["update"]
        rows = [
            {"row": row, "where": f"medqa.jsonl:{row + 1}", "text": f"{self.evil}question {row}", "num_characters": 12}
            for row in range(first, first + 8)
        ]
        return {"epoch": 1, "first": first + 1, "last": first + 8, "num_items": 8, "num_rows": 8, "rows": rows}

    def _list_folder(self, params: dict[str, Any]) -> dict[str, Any]:
        inside = {
            ".": [("here.csv", False, 9)],
            "/data/": [("medqa", True, 0), ("more.jsonl", False, 2048)],
            "/data/medqa/": [("test.csv", False, 5)],
        }
        entries = inside.get(params["path"], [])
        return {
            "entries": [{"name": name, "is_folder": is_folder, "size": size} for name, is_folder, size in entries],
            "is_whole": True,
        }

    def _whole(self, params: dict[str, Any]) -> dict[str, Any]:
        sample = self._sample(params)
        texts = {"record": sample["raw"], "ids": str(sample["input_ids"])}
        return {"text": texts.get(params["what"], "".join(sample["tokens"]))}

    def _batch(self, params: dict[str, Any]) -> dict[str, Any]:
        rows = [tokens_of(row) for row in params["rows"]]
        longest = max(map(len, rows))
        filled = [[*row, *[("<|im_end|>", 2, False)] * (longest - len(row))] for row in rows]
        masks = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        return {
            "rows": [[row] for row in params["rows"]],
            "length": longest,
            "is_packed": False,
            "num_trained": sum(trained for row in rows for _, _, trained in row),
            "num_padding": sum(row.count(0) for row in masks),
            "tokens": [[text for text, _, _ in row] for row in filled],
            "input_ids": [[identifier for _, identifier, _ in row] for row in filled],
            "labels": [[identifier if trained else -100 for _, identifier, trained in row] for row in filled],
            "attention_mask": masks,
        }

    def _verdict(self, params: dict[str, Any]) -> dict[str, Any]:
        lengths = [len(tokens_of(row)) for row in range(NUM_ROWS)]
        self.is_judged = True
        return {
            "num_rows": NUM_ROWS,
            "num_usable": NUM_ROWS,
            "num_train_rows": NUM_ROWS,
            "num_tokens": sum(lengths),
            "num_trained_tokens": 5 * NUM_ROWS,
            "blocks_launch": self.blocks_launch,
            "needs_yes": [problem["code"] for problem in self.problems if problem["code"] == "answer_cut"],
            "problems": self.problems,
            "lengths": sorted(Counter(lengths).items()),
        }

    def _describe_model(self, params: dict[str, Any]) -> dict[str, Any]:
        sizes = {
            "model_type": "llama",
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "intermediate_size": 1536,
            "vocab_size": 49152,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "tie_word_embeddings": True,
        }
        return shape_from_config(sizes).to_dict()

    async def close(self) -> None:
        self.calls.append(("close", {}))


class FakeMachine:
    """A machine of 2 cores and 24 GB that does nothing."""

    def __init__(self) -> None:
        self.reading: MachineReading | None = MachineReading((), 12.0, 24 << 30, 20 << 30, 80 << 30)

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to end."""


@dataclass
class FakeWorld:
    """All of it, with what was launched."""

    root: Path
    data: FakeDataWorker = field(default_factory=FakeDataWorker)
    chat: FakeChatWorker = field(default_factory=FakeChatWorker)
    machine: FakeMachine = field(default_factory=FakeMachine)
    launched: list[Resolved] = field(default_factory=list)
    queued: list[bool] = field(default_factory=list)
    agreed: list[tuple[str, ...]] = field(default_factory=list)
    resumed: list[tuple[int, bool, bool]] = field(default_factory=list)
    start_error: WorkbenchError | None = None

    def start_run(self, resolved: Resolved, *, queued: bool = False, agreed: Sequence[str] = ()) -> RunLayout:
        if self.start_error is not None:
            raise self.start_error
        self.launched.append(resolved)
        self.queued.append(queued)
        self.agreed.append(tuple(agreed))
        return create(resolved.config.name, dump_toml(resolved.config.model_dump()), {}, root=self.root)

    def resume_run(self, target: ResumeTarget, resolved: Resolved, *, is_new_run: bool, is_forced: bool) -> RunLayout:
        if self.start_error is not None:
            raise self.start_error
        self.launched.append(resolved)
        self.resumed.append((target.state.step, is_new_run, is_forced))
        return target.layout

    @property
    def services(self) -> Services:
        return Services(self.data, self.chat, self.machine, self.start_run, self.resume_run)
