"""Which rows the Data screen shows: those that hold a text, that have a problem, that are long; in which order.

The data worker keeps a `Browser` beside each session. A search goes through the data once, in order, keeps nothing of
it but the numbers of the rows it found, and can be ended and gone on with at any row.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from tui_trainer.engine.data.judged import Judged
from tui_trainer.engine.data.matching import Matcher
from tui_trainer.engine.data.rows import Record
from tui_trainer.engine.data.session import DataSession
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import UsageError
from tui_trainer.wire.row_query import ANY_PROBLEM, RowQuery

_BATCH_ROWS = 512
_MAX_GAP = 8
"""Rows that nobody asked for are read along if they are this few between two that somebody did."""
_KEPT_VIEWS = 16


class View:
    """The rows that fit a query, in the order they are shown in; it grows while they are searched.

    Args:
        query: the query.

    Attributes:
        is_complete: whether all rows have been looked at.
        num_searched: candidates looked at so far.
    """

    def __init__(self, query: RowQuery) -> None:
        self.query = query
        self.matcher = Matcher(query.text, is_regex=query.is_regex) if query.text else None
        self.is_complete = False
        self.num_searched = 0
        self.lock = threading.Lock()
        self._found = array("q")

    def __len__(self) -> int:
        return len(self._found)

    def rows(self, start: int, stop: int) -> list[int]:
        """Numbers of the rows on some lines."""
        return self._found[start:stop].tolist()

    def nearest(self, row: int, direction: int) -> tuple[int, int] | None:
        """Line and number of the row found next behind (1) or before (-1) a row, or of the row itself (0)."""
        found = np.array(self._found)
        if direction == 0:
            lines = np.flatnonzero(found == row)
            return (int(lines[0]), row) if len(lines) else None
        numbers = np.sort(found)
        at = int(np.searchsorted(numbers, row, "right")) if direction > 0 else int(np.searchsorted(numbers, row)) - 1
        return self.nearest(int(numbers[at]), 0) if 0 <= at < len(numbers) else None

    def add(self, rows: list[int]) -> None:
        """Take in rows that fit."""
        self._found.extend(rows)

    def finish(self, judged: Judged | None) -> None:
        """All are there: put them in order."""
        if judged is not None and self.query.order:
            numbers = np.array(self._found)
            by = judged.num_tokens if self.query.order in ("longest", "shortest") else judged.num_trained
            sign = -1 if self.query.order in ("longest", "most_trained") else 1
            self._found = array("q", numbers[np.argsort(sign * by[numbers], kind="stable")].tolist())
        self.is_complete = True


class Browser:
    """The views of one session; may be used from several threads.

    Args:
        session: the data.
    """

    def __init__(self, session: DataSession) -> None:
        self.session = session
        self._views: OrderedDict[RowQuery, View] = OrderedDict()
        self._lock = threading.Lock()

    def view(self, query: RowQuery) -> View:
        """The view of a query; a new one is empty until it is filled.

        Raises:
            UsageError: its regular expression is not valid.
        """
        with self._lock:
            view = self._views.get(query)
            if view is None:
                view = self._views[query] = View(query)
            self._views.move_to_end(query)
            while len(self._views) > _KEPT_VIEWS:
                self._views.popitem(last=False)
            return view

    def fill(self, view: View, report: Report = ignore_report) -> None:
        """Find the rows of a view; goes on where an earlier filling was ended.

        Args:
            view: the view.
            report: told how many rows have been searched; what it raises ends the search.

        Raises:
            UsageError: the query needs the verdict, which is not there; or its expression takes too long.
        """
        with view.lock:
            if view.is_complete:
                return
            judged = self._judged(view.query, report)
            candidates = _fitting(view.query, judged) if judged is not None else None
            if view.matcher is not None:
                self._search(view, view.matcher, candidates, report)
            elif candidates is not None:
                view.add(candidates.tolist())
            view.finish(judged)

    def _judged(self, query: RowQuery, report: Report) -> Judged | None:
        if not query.needs_verdict:
            return None
        # a session that was opened anew finds the verdict once it knows the tokenizer
        self.session.pipeline(report)
        judged = self.session.judged()
        if judged is None:
            raise UsageError("the whole set is not judged yet", remedy="Wait until it is, or let it be judged again.")
        return judged

    def _search(self, view: View, matcher: Matcher, candidates: np.ndarray | None, report: Report) -> None:
        total = self.session.rows.num_rows if candidates is None else len(candidates)
        report("searching", view.num_searched, total)
        for records in self._batches(candidates, view.num_searched):
            view.add([record.row for record in records if _matches(matcher, record)])
            view.num_searched += len(records)
            report("searching", view.num_searched, total if candidates is not None else self.session.rows.num_rows)

    def _batches(self, candidates: np.ndarray | None, start: int) -> Iterator[list[Record]]:
        """The candidates from a place on, some at a time."""
        if candidates is None:
            yield from self.session.rows.batches(_BATCH_ROWS, start)
            return
        for begin in range(start, len(candidates), _BATCH_ROWS):
            yield self.records(candidates[begin : begin + _BATCH_ROWS].tolist())

    def records(self, rows: list[int]) -> list[Record]:
        """Rows by their numbers, in that order; neighbours are read at once."""
        found: dict[int, Record] = {}
        for first, last in _stretches(sorted(rows)):
            found.update((record.row, record) for record in self.session.records(first, last + 1))
        return [found[row] for row in rows if row in found]


def _fitting(query: RowQuery, judged: Judged) -> np.ndarray:
    """The rows that fit in all but their text, ascending."""
    fits = np.ones(len(judged), dtype=bool)
    if query.problem:
        fits[:] = False
        for code, rows in judged.problem_rows.items():
            if query.problem in (code, ANY_PROBLEM):
                fits[rows] = True
    if query.min_tokens is not None:
        fits &= judged.num_tokens >= query.min_tokens
    if query.max_tokens is not None:
        fits &= judged.num_tokens <= query.max_tokens
    return np.flatnonzero(fits)


def _matches(matcher: Matcher, record: Record) -> bool:
    try:
        return matcher.matches(record.value)
    except TimeoutError:
        raise UsageError(
            "the regular expression takes too long on this row",
            where=record.where,
            remedy="Write it without nested repetitions, or search for a text.",
        ) from None


def _stretches(rows: list[int]) -> Iterator[tuple[int, int]]:
    """First and last row of each stretch of ascending rows with small gaps only."""
    first = last = -1
    for row in rows:
        if last >= 0 and row - last <= _MAX_GAP:
            last = row
            continue
        if last >= 0:
            yield first, last
        first = last = row
    if last >= 0:
        yield first, last
