"""What the collator makes of some examples, as plain lists, for the view *batch* of the Data screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tui_trainer.config.data import DataConfig
from tui_trainer.engine.data.collate import Padding, packed_batch, padded_batch
from tui_trainer.engine.data.example import LOSS_WEIGHTS, Example, example_arrays
from tui_trainer.engine.data.packing import pack, packed_row
from tui_trainer.engine.data.tokenizer import TextTokenizer

_NAMES = ("input_ids", "attention_mask", "labels", "position_ids")


def batch_document(
    examples: Sequence[Example], data: DataConfig, seed: int, tokenizer: TextTokenizer
) -> dict[str, Any]:
    """One batch of some examples.

    Args:
        examples: usable ones.
        data: says whether they are padded or packed.
        seed: order of packed rows.
        tokenizer: fills and decodes.

    Returns:
        One list a row of the batch: `input_ids`, `attention_mask`, `labels`, `position_ids`, where weights differ
        `loss_weights`, `texts`, `rows` (the data's rows in it) and `pieces` (for each of them `row`, `start` and `end`,
        so that the borders of packed examples can be seen, and what is filled).
    """
    if not examples:
        return {**{name: [] for name in _NAMES}, "texts": [], "rows": [], "pieces": []}
    arrays, pieces = _packed(examples, data, seed) if data.packing else _padded(examples, data, tokenizer)
    lists = {name: [row.tolist() for row in rows] for name, rows in arrays.items()}
    return {
        **lists,
        "texts": [tokenizer.decode(ids) for ids in lists["input_ids"]],
        "rows": [[piece["row"] for piece in row] for row in pieces],
        "pieces": pieces,
    }


_Arrays = dict[str, list[np.ndarray]]
_Pieces = list[list[dict[str, int]]]


def _padded(examples: Sequence[Example], data: DataConfig, tokenizer: TextTokenizer) -> tuple[_Arrays, _Pieces]:
    padding = Padding.of(data, tokenizer.padded_with(data.pad_token))
    batch = padded_batch([example_arrays(example) for example in examples], padding)
    length = batch["input_ids"].shape[1]
    arrays = {name: list(rows) for name, rows in batch.items()}
    # no positions are handed to the model, which then counts from the left
    arrays["position_ids"] = [np.arange(length)] * len(examples)
    starts = [0 if padding.side == "right" else length - example.num_tokens for example in examples]
    return arrays, [
        [{"row": example.row, "start": start, "end": start + example.num_tokens}]
        for example, start in zip(examples, starts, strict=True)
    ]


def _packed(examples: Sequence[Example], data: DataConfig, seed: int) -> tuple[_Arrays, _Pieces]:
    bins = pack([example.num_tokens for example in examples], data.max_length, seed)
    singles = [example_arrays(example) for example in examples]
    rows = [packed_batch([packed_row([singles[member] for member in members])]) for members in bins]
    arrays = {name: [row[name][0] for row in rows] for name in ("input_ids", "labels", "position_ids")}
    # the trainer hands no mask over: the borders are told by the positions
    arrays["attention_mask"] = [np.ones_like(ids) for ids in arrays["input_ids"]]
    if any(LOSS_WEIGHTS in row for row in rows):
        arrays[LOSS_WEIGHTS] = [row.get(LOSS_WEIGHTS, np.ones(row["labels"].shape))[0] for row in rows]
    pieces = []
    for members in bins:
        ends = np.cumsum([examples[member].num_tokens for member in members]).tolist()
        pieces.append(
            [
                {"row": examples[member].row, "start": end - examples[member].num_tokens, "end": end}
                for member, end in zip(members, ends, strict=True)
            ]
        )
    return arrays, pieces
