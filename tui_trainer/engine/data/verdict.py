"""The verdict over a dataset: what is wrong, in how many rows, and whether a run may start on it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xxhash

from tui_trainer.config.data import DataConfig
from tui_trainer.engine.data.example import Example
from tui_trainer.engine.data.problems import Code, RowProblem, remedy_of, severity_of, summary_of, title_of

NEEDS_YES = frozenset(
    {
        Code.ANSWER_CUT,
        Code.DOUBLE_BOS,
        Code.NO_END_OF_TURN,
        Code.TEMPLATE_DROPS_CONTENT,
        Code.TEMPLATE_NOT_PREFIX,
        Code.TEMPLATE_NO_TOOLS,
    }
)
"""Lost answers, dropped content, and training text that a chat does not show: a run wants a yes to each."""

SHOWN_ROWS = 1000
"""Row numbers that a problem lists at most; its count is of all."""

MAX_UNUSABLE = 0.1
"""Share of rows of no use above which a run does not start."""

_INTENDED = (Code.TOO_LONG_DROPPED, Code.PREFERENCE_AS_SFT)
"""Reasons for which rows are left out because the user asked for it."""


class Tally:
    """Counts what is wrong, row after row.

    Args:
        data: the section `[data]`.
    """

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._rows: dict[Code, array[int]] = {}
        self._first: dict[Code, tuple[int, str]] = {}
        self._hashes = array("Q")
        self._hashed_rows = array("q")
        self._last_row = -1
        self._last_usable = -1
        self.num_rows = 0
        self.num_usable = 0
        self._num_tokens = 0
        self._num_trained = 0
        self._longest = 0
        self._num_lost = 0

    def add(self, examples: Iterable[Example]) -> None:
        """Count some examples; those of one row have to come together."""
        for example in examples:
            if example.row != self._last_row:
                self.num_rows += 1
                self._last_row = example.row
                if not example.is_usable and not is_intended(example):
                    self._num_lost += 1
            if example.is_usable:
                if example.row != self._last_usable:
                    self.num_usable += 1
                    self._last_usable = example.row
                self._num_tokens += example.num_tokens
                self._num_trained += example.num_trained
                self._longest = max(self._longest, example.num_tokens)
                self._hashes.append(xxhash.xxh3_64_intdigest(array("I", example.input_ids).tobytes()))
                self._hashed_rows.append(example.row)
            for problem in example.problems:
                self._count(example.row, problem)

    def problem_rows(self) -> dict[str, np.ndarray]:
        """For each problem code, all rows that have it; of doubles only after `result`."""
        return {code.value: np.frombuffer(rows, dtype=np.int64) for code, rows in self._rows.items()}

    def result(self, where: Callable[[int], str], also: Sequence[RowProblem] = ()) -> dict[str, Any]:
        """The verdict as the contract has it.

        Args:
            where: says where a row stands.
            also: problems of all rows together.
        """
        if Code.DUPLICATE not in self._rows:
            self._count_doubles()
        reason = self._blocking_reason()
        problems = [self._problem(code, where) for code in sorted(self._rows, key=_order)]
        needed = needing_yes({"problems": problems})
        problems += [problem_of_all(problem, self.num_usable) for problem in also]
        return {
            "num_rows": self.num_rows,
            "num_usable": self.num_usable,
            "num_tokens": self._num_tokens,
            "num_trained_tokens": self._num_trained,
            "longest": self._longest,
            "blocks_launch": bool(reason),
            "reason": reason,
            "problems": problems,
            "needs_yes": needed,
        }

    def _count_doubles(self) -> None:
        """Find the examples whose tokens came before; done once, when all are there."""
        hashes = np.frombuffer(self._hashes, dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        is_double = np.append(False, hashes[order[1:]] == hashes[order[:-1]]) if len(order) else np.zeros(0, dtype=bool)
        rows = np.frombuffer(self._hashed_rows, dtype=np.int64)
        for row in np.unique(rows[order[is_double]]).tolist():
            self._count(row, RowProblem(Code.DUPLICATE, "has the tokens of an earlier row"))

    def _count(self, row: int, problem: RowProblem) -> None:
        rows = self._rows.setdefault(problem.code, array("q"))
        if not rows:
            self._first[problem.code] = (row, problem.message)
        if not rows or rows[-1] != row:
            rows.append(row)

    def _problem(self, code: Code, where: Callable[[int], str]) -> dict[str, Any]:
        rows = self._rows[code]
        first, message = self._first[code]
        count = f"{len(rows):,} rows" if len(rows) != 1 else "1 row"
        return {
            "code": code.value,
            "title": title_of(code),
            "severity": severity_of(code),
            "count": len(rows),
            "rows": rows[:SHOWN_ROWS].tolist(),
            "message": f"{count}: {summary_of(code)}; first row {first} ({where(first)}): {message}",
            "remedy": remedy_of(code),
        }

    def _blocking_reason(self) -> str:
        if self.num_rows == 0:
            return "there are no rows"
        if Code.PREFERENCE_AS_SFT in self._rows and not self._data.allow_preference_as_sft:
            return "the rows hold judged answers, not examples to follow"
        if self._data.truncation == "error" and Code.TOO_LONG_DROPPED in self._rows:
            return f'{len(self._rows[Code.TOO_LONG_DROPPED]):,} rows are too long, and data.truncation is "error"'
        if self._num_trained == 0:
            return "no token of any row would be trained"
        if self._num_lost > MAX_UNUSABLE * self.num_rows:
            share = self._num_lost / self.num_rows
            return f"{self._num_lost:,} of {self.num_rows:,} rows ({share:.0%}) are of no use"
        return ""


def needing_yes(verdict: Mapping[str, Any]) -> list[str]:
    """The problem codes of a verdict without a yes to which a run does not start."""
    return [problem["code"] for problem in verdict["problems"] if problem["code"] in NEEDS_YES]


def is_intended(example: Example) -> bool:
    """Whether a row is left out because the user asked for it."""
    return not example.codes.isdisjoint(_INTENDED)


def problem_of_all(problem: RowProblem, num_rows: int) -> dict[str, Any]:
    """A problem of every row, as the contract has it."""
    return {
        "code": problem.code.value,
        "title": title_of(problem.code),
        "severity": severity_of(problem.code),
        "count": num_rows,
        "rows": [],
        "message": f"all rows: {summary_of(problem.code)}: {problem.message}",
        "remedy": remedy_of(problem.code),
    }


def _order(code: Code) -> tuple[bool, int]:
    """Errors first, each in the order of the codes."""
    return severity_of(code) != "error", list(Code).index(code)
