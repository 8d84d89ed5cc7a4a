"""The stream as training draws it: item after item, tokenised window by window when they are asked for.

An item has a number, and the position of a run is the number of the next one; going there costs the reading of its
window and nothing of what lies before.
"""

from __future__ import annotations

import bisect
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xxhash

from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.data.example import Example, example_arrays
from tui_trainer.engine.data.packing import pack, packed_row
from tui_trainer.engine.data.pipeline import DataPipeline
from tui_trainer.engine.data.problems import Code
from tui_trainer.engine.data.rows import Record
from tui_trainer.engine.data.rowset import Part
from tui_trainer.engine.data.streaming.order import StreamOrder
from tui_trainer.engine.data.streaming.window_log import WindowLog, stream_logs_dir
from tui_trainer.engine.data.verdict import MAX_UNUSABLE, is_intended
from tui_trainer.errors import DataError

WINDOW_ROWS = 256
_PACKED_WINDOW_ROWS = 1024
"""More, so that the last rows of a window, which are not full, weigh little."""

_SLICE_ROWS = 128
_KEPT_WINDOWS = 2
_MAX_EMPTY_WINDOWS = 16
_JUDGED_ROWS = 1024
"""Rows after which too many that are of no use end the run."""

Item = dict[str, np.ndarray]

ENDLESS = 1 << 40
"""The length of a stream: no run asks for so many items."""


class StreamedExamples:
    """The items of a stream; an `engine.trainer.feed.Stream`.

    Args:
        config: the run.
        order: its rows.
        pipeline: makes examples of them.
        log: where the sizes of windows are kept.
    """

    def __init__(self, config: RunConfig, order: StreamOrder, pipeline: DataPipeline, log: WindowLog) -> None:
        self._config = config
        self._order = order
        self._pipeline = pipeline
        self._log = log
        self._next = 0
        """Number of the item that is drawn next."""
        self._firsts = [0]
        """Number of the first item of each window met so far, and of the one behind."""
        self._windows: OrderedDict[int, list[Item]] = OrderedDict()
        self._num_rows = self._num_useless = 0
        self._num_left_out = self._num_summed = 0

    def __iter__(self) -> Iterator[Item]:
        """The items from the present position on, without end."""
        while True:
            item = self[self._next]
            self._next += 1
            yield item

    def state_dict(self) -> dict[str, Any]:
        """The position behind the last item that was drawn."""
        return {"num_items": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a position."""
        self._next = int(state["num_items"])

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Item:
        """`input_ids`, `labels`, `position_ids` if packed and `loss_weights` if weighted, shape (num_tokens,).

        Raises:
            DataError: the data cannot be read, or too much of it is of no use.
        """
        while index >= self._firsts[-1]:
            self._firsts.append(self._firsts[-1] + self._num_items(len(self._firsts) - 1))
        window = bisect.bisect_right(self._firsts, index) - 1
        return self._loaded(window)[index - self._firsts[window]]

    @property
    def num_left_out(self) -> int:
        """Rows of no use in all windows met so far."""
        for window in range(self._num_summed, len(self._firsts) - 1):
            counts = self._log.counts(window)
            self._num_left_out += counts[1] if counts else 0
        self._num_summed = len(self._firsts) - 1
        return self._num_left_out

    def _num_items(self, window: int) -> int:
        counts = self._log.counts(window)
        num_items = counts[0] if counts else len(self._loaded(window))
        if not num_items and self._firsts[-1] in self._firsts[:-_MAX_EMPTY_WINDOWS]:
            raise DataError(
                f"none of {_MAX_EMPTY_WINDOWS * WINDOW_ROWS:,} rows in a row is of use",
                where=self._config.data.path or "data.sources",
            )
        return num_items

    def _loaded(self, window: int) -> list[Item]:
        if window not in self._windows:
            while len(self._windows) >= _KEPT_WINDOWS:
                self._windows.popitem(last=False)
            self._windows[window] = self._made(window)
        return self._windows[window]

    def _made(self, window: int) -> list[Item]:
        records = self._order.window(window)
        examples = [
            example
            for start in range(0, len(records), _SLICE_ROWS)
            for example in self._pipeline.examples(records[start : start + _SLICE_ROWS])
        ]
        self._judge(records, examples)
        usable = [example for example in examples if example.is_usable]
        arrays = [example_arrays(example) for example in usable]
        data, seed = self._config.data, self._config.training.seed
        if data.packing:
            lengths = [example.num_tokens for example in usable]
            bins = pack(lengths, data.max_length, seed + window)
            items = [packed_row([arrays[member] for member in members]) for members in bins]
        elif data.truncation == "split" and data.shuffle_buffer > 1:
            # the pieces of a text should not come one behind the other
            order = np.random.default_rng((seed, window)).permutation(len(arrays)).tolist()
            items = [arrays[place] for place in order]
        else:
            items = arrays
        self._log.add(window, len(items), sum(not example.is_usable for example in examples))
        return items

    def _judge(self, records: Sequence[Record], examples: Sequence[Example]) -> None:
        """Refuse to go on where too many rows are lost: those at the begin could not tell what comes.

        Raises:
            DataError: names the first row that is of no use.
        """
        lost = [example for example in examples if not example.is_usable and not is_intended(example)]
        self._num_rows += len(records)
        self._num_useless += len(lost)
        reason = ""
        if self._config.data.truncation == "error":
            lost = [example for example in examples if Code.TOO_LONG_DROPPED in example.codes]
            reason = 'data.truncation is "error"' if lost else ""
        elif self._num_rows >= _JUDGED_ROWS and self._num_useless > MAX_UNUSABLE * self._num_rows:
            reason = f"{self._num_useless:,} of the {self._num_rows:,} rows read so far are of no use"
        if reason and lost:
            where = records[lost[0].row - records[0].row].where
            said = "; ".join(problem.message for problem in lost[0].problems)
            raise DataError(f"{said}; {reason}", where=where, remedy="Mend or remove such rows and start again.")


def streamed_examples(
    config: RunConfig, fingerprint: str, parts: Sequence[Part], pipeline: DataPipeline
) -> StreamedExamples:
    """The stream of a run.

    Args:
        config: the run.
        fingerprint: of its rows as they are tokenised.
        parts: its sources.
        pipeline: makes examples of their rows.
    """
    data, seed = config.data, config.training.seed
    rows = _PACKED_WINDOW_ROWS if data.packing else WINDOW_ROWS
    decisive = [fingerprint, seed, data.shuffle_buffer, data.packing, [part.weight for part in parts]]
    log_path = stream_logs_dir(data.cache_dir) / f"{xxhash.xxh3_128_hexdigest(json.dumps(decisive).encode())}.log"
    return StreamedExamples(config, StreamOrder(parts, data.shuffle_buffer, rows, seed), pipeline, WindowLog(log_path))
