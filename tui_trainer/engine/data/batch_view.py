"""A batch as the collator makes it, for the Data screen: padded rows, or packed ones with the borders in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tui_trainer.engine.data.collate import Padding, packed_batch, padded_batch
from tui_trainer.engine.data.dataset import Examples, PackedExamples
from tui_trainer.engine.data.example import IGNORED, example_arrays
from tui_trainer.engine.data.packing import pack, packed_row
from tui_trainer.engine.data.session import DataSession

MAX_POSITIONS = 4096
"""Positions of each sequence that are handed over."""

_NAMES = ("input_ids", "attention_mask", "labels", "position_ids", "loss_weights")


def batch_document(session: DataSession, rows: Sequence[int]) -> dict[str, Any]:
    """What the collator makes of some rows; where rows are packed, of the packed rows the first of them is in.

    Attributes of the answer: `rows`, for each sequence the rows in it; `length`, tokens of each sequence; `num_trained`
    and `num_padding` of all; `is_packed`, `num_packed`: packed rows in it; `is_as_trained`, whether the packing is that
    of the run, which is known once the whole set is judged; and for each sequence up to `MAX_POSITIONS` of `tokens`,
    `input_ids`, `labels`, and of `attention_mask`, `position_ids` and `loss_weights` where the batch has them.
    """
    if session.config.data.packing:
        return _packed(session, rows)
    usable = [example for example in session.pipeline().examples(_records(session, rows)) if example.is_usable]
    if not usable:
        return {"rows": [], "length": 0, "is_packed": False}
    tokenizer = session.pipeline().tokenizer
    padding = Padding.of(session.config.data, tokenizer.padded_with(session.config.data.pad_token))
    batch = padded_batch([example_arrays(example) for example in usable], padding)
    return _document(session, batch, [[example.row] for example in usable])


def _packed(session: DataSession, rows: Sequence[int]) -> dict[str, Any]:
    size = session.config.training.per_device_train_batch_size
    selection = session.selection
    if selection is not None and selection.bins is not None and (store := session.known_store()) is not None:
        chosen = np.flatnonzero(store.rows[selection.train] == rows[0]) if rows else np.zeros(0, dtype=np.int64)
        number = next((at for at, members in enumerate(selection.bins) if len(chosen) and chosen[0] in members), None)
        if number is not None:
            packed = PackedExamples(Examples(store, selection.train), selection.bins)
            numbers = range(number, min(number + size, len(packed)))
            batch = packed_batch([packed[at] for at in numbers])
            members = [row for at in numbers for row in packed.rows(at)]
            return {**_document(session, batch, [members]), "num_packed": len(numbers), "is_as_trained": True}
    usable = [example for example in session.pipeline().examples(_records(session, rows)) if example.is_usable]
    if not usable:
        return {"rows": [], "length": 0, "is_packed": True}
    data = session.config.data
    bins = pack([example.num_tokens for example in usable], data.max_length, session.config.training.seed)
    arrays = [example_arrays(example) for example in usable]
    batch = packed_batch([packed_row([arrays[member] for member in members]) for members in bins])
    document = _document(session, batch, [[usable[member].row for members in bins for member in members]])
    return {**document, "num_packed": len(bins), "is_as_trained": False}


def _records(session: DataSession, rows: Sequence[int]) -> list[Any]:
    return [session.record(row) for row in rows]


def _document(session: DataSession, batch: dict[str, np.ndarray], rows: list[list[int]]) -> dict[str, Any]:
    shown = {name: batch[name][:, :MAX_POSITIONS] for name in _NAMES if name in batch}
    tokenizer = session.pipeline().tokenizer
    mask = batch.get("attention_mask")
    return {
        **{name: array.tolist() for name, array in shown.items()},
        "tokens": [tokenizer.token_texts(ids) for ids in shown["input_ids"].tolist()],
        "rows": rows,
        "length": int(batch["input_ids"].shape[1]),
        "num_trained": int((batch["labels"] != IGNORED).sum()),
        "num_padding": 0 if mask is None else int((mask == 0).sum()),
        "is_packed": mask is None,
    }
