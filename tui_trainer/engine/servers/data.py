"""The data worker: opens datasets, pages rows, tokenises samples, judges whole sets; one process beside the front end.

Methods: `open` {config}, `count` {config}, `rows` {config, split, start, stop, columns, query}, `select` and `find`
{config, split, query}, `sample`, `tokens` and `whole` {config, split, row, piece}, `sample_as` {config, split, row,
template}, `templates` {config}, `batch` {config, split, rows, piece, size}, `verdict` {config}, `problem_rows`
{config, code}, `columns` {config}, `step_rows` {config, order, update, fingerprint}, `list_folder` {path},
`describe_model` {config}. Neither torch nor transformers is loaded for rows; for tokens only if the tokenizer is new,
and for the rows of a step.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.data.batch_view import batch_document
from tui_trainer.engine.data.browse import Browser
from tui_trainer.engine.data.cells import cells_document
from tui_trainer.engine.data.mapping import mapping_document
from tui_trainer.engine.data.samples import Samples
from tui_trainer.engine.data.session import DataSession
from tui_trainer.engine.data.sources.listing import list_folder
from tui_trainer.engine.data.templates.library import known_templates
from tui_trainer.engine.data.tokenizer_cache import text_tokenizer
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.engine.servers.progress import with_progress
from tui_trainer.errors import UsageError
from tui_trainer.runs.row_order import RowOrder
from tui_trainer.wire.row_query import RowQuery
from tui_trainer.wire.server import Cancellation, Method, serve_stdio

T = TypeVar("T")
Steps = Generator[dict[str, Any], None, dict[str, Any]]

MAX_ROWS = 1000
"""Rows that one request may ask for."""

_COUNT_SECONDS = 0.05
"""Time `open` counts rows before it answers without their number."""

_KEPT_SESSIONS = 4


class Opened:
    """A session with what is kept beside it for showing."""

    def __init__(self, session: DataSession) -> None:
        self.session = session
        self.browser = Browser(session)
        self.samples = Samples(session)


class DataServer:
    """The methods of the worker; several run at once, over sessions that they share."""

    def __init__(self) -> None:
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def methods(self) -> Mapping[str, Method]:
        """Method name to generator function."""
        return {
            "open": self.open,
            "count": self.count,
            "rows": self.rows,
            "select": self.select,
            "find": self.find,
            "sample": self.sample,
            "sample_as": self.sample_as,
            "templates": self.templates,
            "tokens": self.tokens,
            "whole": self.whole,
            "batch": self.batch,
            "verdict": self.verdict,
            "problem_rows": self.problem_rows,
            "columns": self.columns,
            "step_rows": self.step_rows,
            "list_folder": self.list_folder,
            "describe_model": self.describe_model,
        }

    # -- the data

    def open(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """Open a dataset anew; answers as soon as its first rows are there."""

        def task(report: Report) -> dict[str, Any]:
            session = self._open(params, report, is_new=True).session
            counted = _count_a_moment(session)
            return {**session.info(), "num_rows_at_least": counted}

        return (yield from with_progress(task, cancellation))

    def count(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """Count the rows to the end; how many there are so far comes as progress."""

        def task(report: Report) -> dict[str, Any]:
            session = self._open(params, report).session
            return {"num_rows": session.count(lambda count: report("counting", count, None))}

        return (yield from with_progress(task, cancellation))

    def rows(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """The cells of some rows, of all or of those that fit a query, and their number as far as it is known."""
        opened = yield from self._known_or_new(params, cancellation)
        session, browser = opened.session, opened.browser
        start = max(int(params.get("start") or 0), 0)
        stop = min(int(params.get("stop") or start), start + MAX_ROWS)
        query, columns = RowQuery.of(params.get("query") or {}), params.get("columns")
        if query.is_all:
            records, matcher, num_rows = session.records(start, stop), None, session.num_rows
        else:
            view = browser.view(query)
            if not view.is_complete and not view.lock.locked() and view.num_searched == 0:
                # this process was started after the rows were selected
                yield from with_progress(lambda report: browser.fill(view, report), cancellation)
            records, matcher = browser.records(view.rows(start, stop)), view.matcher
            num_rows = len(view)
        judged = session.judged()
        return {"rows": [cells_document(record, columns, judged, matcher) for record in records], "num_rows": num_rows}

    def select(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """Find the rows that fit a query; how many there are so far comes with the progress."""
        opened = yield from self._known_or_new(params, cancellation)
        view = opened.browser.view(RowQuery.of(params.get("query") or {}))
        for item in with_progress(lambda report: opened.browser.fill(view, report), cancellation):
            yield {**item, "found": len(view)}
        return {"num_rows": len(view)}

    def find(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """The next (direction 1) or previous (-1) row of a query, or the row itself (0), among those found so far."""
        opened = yield from self._known_or_new(params, cancellation)
        view = opened.browser.view(RowQuery.of(params.get("query") or {}))
        found = view.nearest(int(params.get("row") or 0), int(params.get("direction") or 0))
        line, row = found or (None, None)
        return {"line": line, "row": row, "is_complete": view.is_complete}

    def columns(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """What could play which role: formats with their roles, and paths into the rows."""
        opened = yield from self._known_or_new(params, cancellation)
        return mapping_document(opened.session)

    def list_folder(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """What is in a folder, as far as it may be opened as a dataset."""
        return (yield from with_progress(lambda _: list_folder(str(params.get("path") or "")), cancellation))

    # -- tokens

    def sample(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """A row as it will be trained on."""
        opened = yield from self._known_or_new(params, cancellation)
        row, piece = _row_and_piece(params)
        return (yield from self._quickly(opened.session, lambda: opened.samples.document(row, piece), cancellation))

    def sample_as(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """A row as another chat template would have it."""
        opened = yield from self._known_or_new(params, cancellation)
        session = opened.session.with_template(params.get("template") or None)
        row, _ = _row_and_piece(params)
        return (yield from with_progress(lambda _: Samples(session).document(row), cancellation))

    def templates(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """The chat templates there are for a model."""
        config = _config(params)

        def task(report: Report) -> dict[str, Any]:
            return {"templates": known_templates(text_tokenizer(config.model, report).state.chat_template)}

        return (yield from with_progress(task, cancellation))

    def tokens(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """Further tokens of a row, from `start` on."""
        opened = yield from self._known_or_new(params, cancellation)
        (row, piece), start = _row_and_piece(params), max(int(params.get("start") or 0), 0)
        task = lambda: opened.samples.tokens(row, start, piece)  # noqa: E731 - as in the methods around it
        return (yield from self._quickly(opened.session, task, cancellation))

    def whole(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """All of a row as text, to be copied: its `record`, `ids` or `text`."""
        opened = yield from self._known_or_new(params, cancellation)
        (row, piece), what = _row_and_piece(params), str(params.get("what") or "text")
        task = lambda: {"text": opened.samples.whole(row, what, piece)}  # noqa: E731 - as in the methods around it
        return (yield from self._quickly(opened.session, task, cancellation))

    def batch(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """What the collator makes of some rows."""
        opened = yield from self._known_or_new(params, cancellation)
        rows = [int(row) for row in params.get("rows") or ()][:MAX_ROWS]
        (_, piece), size = _row_and_piece(params), min(int(params.get("size") or 0), MAX_ROWS)
        task = lambda: batch_document(opened.session, rows, piece, size)  # noqa: E731 - as in the methods around it
        return (yield from self._quickly(opened.session, task, cancellation))

    def verdict(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """The verdict over all rows, with their lengths."""

        def task(report: Report) -> dict[str, Any]:
            return self._open(params, report).session.verdict(report)

        return (yield from with_progress(task, cancellation))

    def problem_rows(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """All rows that have a problem, once the verdict is there."""
        opened = yield from self._known_or_new(params, cancellation)
        return {"rows": opened.session.problem_rows(str(params.get("code") or ""))}

    def step_rows(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """The rows that a step of a run trained on."""

        def task(report: Report) -> dict[str, Any]:
            from tui_trainer.engine.trainer.step_rows import step_rows

            order = RowOrder.from_dict(params.get("order"))
            if order is None:
                raise UsageError("the run did not note where its rows begin")
            update, fingerprint = int(params.get("update") or 0), str(params.get("fingerprint") or "")
            return step_rows(DataSession(_config(params), report=report), order, update, fingerprint, report)

        return (yield from with_progress(task, cancellation))

    def describe_model(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """The shape of the model, from which memory and checkpoints are estimated."""
        config = _config(params)

        def task(report: Report) -> dict[str, Any]:
            from tui_trainer.engine.models.shape import describe_model

            return describe_model(config.model, report).to_dict()

        return (yield from with_progress(task, cancellation))

    # -- sessions

    def _known_or_new(self, params: dict[str, Any], cancellation: Cancellation) -> Generator[Any, None, Opened]:
        """The session of a request; opened with progress if it is not."""
        known = self._known(params)
        if known is not None:
            return known
        return (yield from with_progress(lambda report: self._open(params, report), cancellation))

    def _quickly(
        self, session: DataSession, task: Callable[[], T], cancellation: Cancellation
    ) -> Generator[Any, None, T]:
        """Run at once if the tokenizer is there; else with progress, for loading it takes seconds."""
        if session.has_pipeline:
            return task()

        def with_tokenizer(report: Report) -> T:
            session.pipeline(report)
            return task()

        return (yield from with_progress(with_tokenizer, cancellation))

    def _open(self, params: dict[str, Any], report: Report = ignore_report, *, is_new: bool = False) -> Opened:
        known = None if is_new else self._known(params)
        if known is not None:
            return known
        opened = Opened(DataSession(_config(params), params.get("split"), report))
        with self._lock:
            key = _key(params, opened.session.split)
            self._opened[key] = opened
            self._opened.move_to_end(key)
            while len(self._opened) > _KEPT_SESSIONS:
                self._opened.popitem(last=False)
        return opened

    def _known(self, params: Mapping[str, Any]) -> Opened | None:
        """The session of a request, if it is open; the split it trains on may be named or not."""
        split = params.get("split")
        with self._lock:
            opened = self._opened.get(_key(params, None))
            if opened is None or split not in (None, opened.session.split_name):
                opened = self._opened.get(_key(params, split))
            return opened


class _MomentIsOverError(Exception):
    """Ends a counting that takes too long."""


def _count_a_moment(session: DataSession) -> int:
    """Count rows for a moment; returns how many there are at least."""
    deadline = time.monotonic() + _COUNT_SECONDS
    counted = 0

    def heartbeat(count: int) -> None:
        nonlocal counted
        counted = count
        if time.monotonic() > deadline:
            raise _MomentIsOverError

    try:
        return session.count(heartbeat)
    except _MomentIsOverError:
        return counted


def _config(params: Mapping[str, Any]) -> RunConfig:
    try:
        return RunConfig.model_validate(params.get("config") or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"the request's configuration is not valid: {key}: {first['msg']}") from None


def _row_and_piece(params: Mapping[str, Any]) -> tuple[int, int]:
    """The row that is asked for, and which of the pieces it is split into."""
    return int(params.get("row") or 0), max(int(params.get("piece") or 0), 0)


def _key(params: Mapping[str, Any], split: str | None) -> str:
    """What a session depends on: the data, the tokenizer, the stage, the seed and the split."""
    config = params.get("config") or {}
    seed = (config.get("training") or {}).get("seed")
    return json.dumps([config.get("data"), config.get("model"), config.get("stage"), seed, split], sort_keys=True)


def main() -> None:
    """Serve over standard input and output until the front end goes."""
    serve_stdio("data", DataServer().methods)


if __name__ == "__main__":
    main()
