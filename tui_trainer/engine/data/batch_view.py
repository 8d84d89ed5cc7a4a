"""A batch as the collator makes it, for the Data screen: padded rows, or packed ones with the borders in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tui_trainer.engine.data.collate import Padding, packed_batch, padded_batch
from tui_trainer.engine.data.dataset import Examples, PackedExamples
from tui_trainer.engine.data.example import IGNORED, Example, example_arrays
from tui_trainer.engine.data.packing import pack, packed_row
from tui_trainer.engine.data.session import DataSession

MAX_POSITIONS = 4096
"""Positions of each sequence that are handed over."""

_NAMES = ("input_ids", "attention_mask", "labels", "position_ids", "loss_weights")


def batch_document(
    session: DataSession, rows: Sequence[int], piece: int = 0, size: int | None = None
) -> dict[str, Any]:
    """What the collator makes of some rows; where rows are packed, of the packed rows the first of them is in.

    Args:
        session: the data.
        rows: the rows; of those that are split all pieces.
        piece: of the first row, the piece to begin with.
        size: sequences of the batch at most; without it as many as the run trains on at a time.

    Attributes of the answer: `rows` and `pieces`, for each sequence the rows in it and which piece of each; `length`,
    tokens of each sequence; `num_trained` and `num_padding` of all; `is_packed`, `num_packed`: packed rows in it;
    `is_as_trained`, whether the packing is that of the run, which is known once the whole set is judged; and for each
    sequence up to `MAX_POSITIONS` of `tokens`, `input_ids`, `labels`, and of `attention_mask`, `position_ids` and
    `loss_weights` where the batch has them.
    """
    size = size or session.config.training.per_device_train_batch_size
    if session.config.data.packing:
        return _as_trained(session, rows, piece, size) or _packed(session, rows, piece)
    usable = _usable(session, rows, piece)[:size]
    if not usable:
        return {"rows": [], "length": 0, "is_packed": False}
    tokenizer = session.pipeline().tokenizer
    padding = Padding.of(session.config.data, tokenizer.padded_with(session.config.data.pad_token))
    batch = padded_batch([example_arrays(example) for example, _ in usable], padding)
    return _document(session, batch, [[(example.row, at)] for example, at in usable])


def _usable(session: DataSession, rows: Sequence[int], piece: int) -> list[tuple[Example, int]]:
    """The examples of some rows that can be trained on, each with which piece of its row it is."""
    found: list[tuple[Example, int]] = []
    for row in rows:
        pieces = enumerate(session.pipeline().examples([session.record(row)]))
        found += [(example, at) for at, example in pieces if row != rows[0] or at >= piece]
    return [(example, at) for example, at in found if example.is_usable]


def _as_trained(session: DataSession, rows: Sequence[int], piece: int, size: int) -> dict[str, Any] | None:
    """The packed rows of the run from the one on that holds the piece; None where that is not known."""
    selection, store = session.selection, session.known_store()
    if selection is None or selection.bins is None or store is None or not rows:
        return None
    first = int(np.searchsorted(store.rows, rows[0]))
    wanted = np.flatnonzero(selection.train == first + piece)
    number = next((at for at, members in enumerate(selection.bins) if len(wanted) and wanted[0] in members), None)
    if number is None or first + piece >= len(store) or store.rows[first + piece] != rows[0]:
        return None
    packed = PackedExamples(Examples(store, selection.train), selection.bins)
    numbers = range(number, min(number + size, len(packed)))
    examples = [int(selection.train[member]) for at in numbers for member in selection.bins[at]]
    members = [(int(store.rows[at]), at - int(np.searchsorted(store.rows, store.rows[at]))) for at in examples]
    document = _document(session, packed_batch([packed[at] for at in numbers]), [members])
    return {**document, "num_packed": len(numbers), "is_as_trained": True}


def _packed(session: DataSession, rows: Sequence[int], piece: int) -> dict[str, Any]:
    """The rows packed among themselves."""
    usable = _usable(session, rows, piece)
    if not usable:
        return {"rows": [], "length": 0, "is_packed": True}
    data = session.config.data
    bins = pack([example.num_tokens for example, _ in usable], data.max_length, session.config.training.seed)
    arrays = [example_arrays(example) for example, _ in usable]
    batch = packed_batch([packed_row([arrays[member] for member in members]) for members in bins])
    shown = [(usable[member][0].row, usable[member][1]) for members in bins for member in members]
    return {**_document(session, batch, [shown]), "num_packed": len(bins), "is_as_trained": False}


def _document(
    session: DataSession, batch: dict[str, np.ndarray], members: list[list[tuple[int, int]]]
) -> dict[str, Any]:
    shown = {name: batch[name][:, :MAX_POSITIONS] for name in _NAMES if name in batch}
    tokenizer = session.pipeline().tokenizer
    mask = batch.get("attention_mask")
    return {
        **{name: array.tolist() for name, array in shown.items()},
        "tokens": [tokenizer.token_texts(ids) for ids in shown["input_ids"].tolist()],
        "rows": [[row for row, _ in sequence] for sequence in members],
        "pieces": [[piece for _, piece in sequence] for sequence in members],
        "length": int(batch["input_ids"].shape[1]),
        "num_trained": int((batch["labels"] != IGNORED).sum()),
        "num_padding": 0 if mask is None else int((mask == 0).sum()),
        "is_packed": mask is None,
    }
