"""The data worker: opens datasets, pages rows, tokenises samples, judges whole sets; one process beside the front end.

Methods: `open` {config}, `rows` {config, split, start, stop}, `sample` {config, split, row}, `batch` {config, split,
rows}, `verdict` {config}, `problem_rows` {config, code}, `describe_model` {config}. Neither torch nor transformers is
loaded for rows; for tokens only if the tokenizer is new.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.data.preview import cells_document, sample_document
from tui_trainer.engine.data.session import DataSession
from tui_trainer.engine.report import Report
from tui_trainer.engine.servers.progress import with_progress
from tui_trainer.errors import UsageError
from tui_trainer.wire.server import Cancellation, Method, serve_stdio

T = TypeVar("T")
Steps = Generator[dict[str, Any], None, dict[str, Any]]

MAX_ROWS = 1000
"""Rows that one request may ask for."""

_COUNT_SECONDS = 1.0
"""Time `open` waits for the rows to be counted before it answers without their number."""

_KEPT_SESSIONS = 4


class DataServer:
    """The methods of the worker; several run at once, over sessions that they share."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, DataSession] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def methods(self) -> Mapping[str, Method]:
        """Method name to generator function."""
        return {
            "open": self.open,
            "rows": self.rows,
            "sample": self.sample,
            "batch": self.batch,
            "verdict": self.verdict,
            "problem_rows": self.problem_rows,
            "describe_model": self.describe_model,
        }

    def open(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """Open a dataset anew; answers as soon as its first rows are there."""

        def task(report: Report) -> dict[str, Any]:
            session = self._session(params, report, is_new=True)
            counted = self._count(session)
            return {**session.info(), "num_rows_at_least": counted}

        return (yield from with_progress(task, cancellation))

    def rows(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """The cells of some rows, and their number as far as it is known."""
        session = yield from self._opened(params, cancellation)
        start = max(int(params.get("start") or 0), 0)
        stop = min(int(params.get("stop") or start), start + MAX_ROWS)
        records = session.records(start, stop)
        lengths = session.known_lengths(start, stop)
        rows = [cells_document(record, lengths[at] if lengths else None) for at, record in enumerate(records)]
        return {"rows": rows, "num_rows": session.rows.num_rows}

    def sample(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """A row as it will be trained on."""
        session = yield from self._opened(params, cancellation)
        row = int(params.get("row") or 0)
        return (yield from self._quickly(session, lambda: sample_document(session, row), cancellation))

    def batch(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """What the collator makes of some rows."""
        session = yield from self._opened(params, cancellation)
        rows = [int(row) for row in params.get("rows") or ()][:MAX_ROWS]
        return (yield from self._quickly(session, lambda: session.batch(rows), cancellation))

    def verdict(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """The verdict over all rows, with their lengths."""

        def task(report: Report) -> dict[str, Any]:
            return self._session(params, report).verdict(report)

        return (yield from with_progress(task, cancellation))

    def problem_rows(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """All rows that have a problem, once the verdict is there."""
        session = yield from self._opened(params, cancellation)
        return {"rows": session.problem_rows(str(params.get("code") or ""))}

    def describe_model(self, params: dict[str, Any], cancellation: Cancellation) -> Steps:
        """The shape of the model, from which memory and checkpoints are estimated."""
        config = _config(params)

        def task(report: Report) -> dict[str, Any]:
            from tui_trainer.engine.models.shape import describe_model

            return describe_model(config.model, report).to_dict()

        return (yield from with_progress(task, cancellation))

    def _opened(self, params: dict[str, Any], cancellation: Cancellation) -> Generator[Any, None, DataSession]:
        """The session of a request; opened with progress if it is not."""
        known = self._known(params)
        if known is not None:
            return known
        return (yield from with_progress(lambda report: self._session(params, report), cancellation))

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

    def _session(self, params: dict[str, Any], report: Report, *, is_new: bool = False) -> DataSession:
        known = None if is_new else self._known(params)
        if known is not None:
            return known
        session = DataSession(_config(params), params.get("split"), report)
        with self._lock:
            key = _key(params, session.split)
            self._sessions[key] = session
            self._sessions.move_to_end(key)
            while len(self._sessions) > _KEPT_SESSIONS:
                self._sessions.popitem(last=False)
        return session

    def _known(self, params: Mapping[str, Any]) -> DataSession | None:
        """The session of a request, if it is open; the split it trains on may be named or not."""
        split = params.get("split")
        with self._lock:
            session = self._sessions.get(_key(params, None))
            if session is None or split not in (None, session.split_name):
                session = self._sessions.get(_key(params, split))
            return session

    def _count(self, session: DataSession) -> int:
        """Count the rows in the background, and wait for that a moment; returns how many there are at least."""
        counter = _Counter(session)
        if session.rows.num_rows is None:
            counter.start()
            counter.join(_COUNT_SECONDS)
        return session.rows.num_rows or counter.count


class _Counter(threading.Thread):
    """Counts the rows of a session while others read them."""

    def __init__(self, session: DataSession) -> None:
        super().__init__(daemon=True)
        self._session = session
        self.count = 0

    def run(self) -> None:
        # an error is met again, and told, by whoever reads the rows
        with contextlib.suppress(Exception):
            self._session.count(self._on_rows)

    def _on_rows(self, count: int) -> None:
        self.count = count
        # the other threads go first
        time.sleep(0)


def _config(params: Mapping[str, Any]) -> RunConfig:
    try:
        return RunConfig.model_validate(params.get("config") or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"the request's configuration is not valid: {key}: {first['msg']}") from None


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
