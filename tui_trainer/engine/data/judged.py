"""What the verdict found out about each single row: its lengths and its problems, for the table and its filters."""

from __future__ import annotations

from typing import Any

import numpy as np

from tui_trainer.engine.data.building import VERDICT
from tui_trainer.engine.data.store import ExampleStore


class Judged:
    """The rows of a store, one entry a row.

    Attributes:
        num_tokens: tokens before anything was cut, int64, shape (num_rows,); 0 where the row could not be read.
        num_trained: tokens that count in the loss, int64, shape (num_rows,).
        problem_rows: for each problem code its rows, ascending.
    """

    def __init__(self, store: ExampleStore) -> None:
        self.num_tokens: np.ndarray = store.lengths
        sums = np.bincount(store.rows, weights=store.trained, minlength=len(store.lengths))
        self.num_trained: np.ndarray = sums.astype(np.int64)
        codes = [problem["code"] for problem in store.meta[VERDICT]["problems"]]
        self.problem_rows: dict[str, np.ndarray] = {code: np.sort(store.problem_rows(code)) for code in codes}

    def __len__(self) -> int:
        return len(self.num_tokens)

    def of_row(self, row: int) -> dict[str, Any]:
        """Lengths and problem codes of one row; nothing of a row that was added since."""
        if row >= len(self):
            return {}
        return {
            "num_tokens": int(self.num_tokens[row]),
            "num_trained": int(self.num_trained[row]),
            "problems": [code for code, rows in self.problem_rows.items() if _holds(rows, row)],
        }


def _holds(rows: np.ndarray, row: int) -> bool:
    """Whether a row is among ascending ones."""
    at = int(np.searchsorted(rows, row))
    return at < len(rows) and int(rows[at]) == row
