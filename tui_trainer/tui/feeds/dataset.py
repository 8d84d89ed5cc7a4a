"""The dataset of the draft, as the data worker sees it: opened, counted, paged, searched, tokenised, judged."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from textual.app import App
from textual.signal import Signal

from tui_trainer.errors import WorkbenchError
from tui_trainer.tui import format as fmt
from tui_trainer.tui.services import WorkerClient
from tui_trainer.wire.row_query import RowQuery

if TYPE_CHECKING:
    from tui_trainer.config.schema import RunConfig

_KEPT_SAMPLES = 8


@dataclass(frozen=True)
class DatasetState:
    """What is known of the dataset.

    Attributes:
        is_opening: the worker is at it.
        info: the worker's answer to `open`.
        error: why it cannot be used.
        progress: what the worker is doing, with done and total.
        num_rows: rows of the split to train on, None while they are counted.
        num_rows_at_least: rows counted so far.
        verdict: the judgement over the whole set.
        verdict_progress: rows judged so far, and in all.
        is_judging_stopped: the user ended the judging before it was done.
        shape: sizes of the model, as `describe_model` gives them.
    """

    is_opening: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    error: WorkbenchError | None = None
    progress: str = ""
    num_rows: int | None = None
    num_rows_at_least: int = 0
    verdict: dict[str, Any] | None = None
    verdict_progress: tuple[int, int | None] | None = None
    is_judging_stopped: bool = False
    shape: dict[str, Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether rows can be asked for."""
        return bool(self.info)

    @property
    def splits(self) -> dict[str, str]:
        """The splits of the sources, each with its number of rows in words."""
        counts: dict[str, int | None] = {}
        for source in self.info.get("sources") or ():
            for name, split in (source.get("splits") or {}).items():
                known, number = counts.get(name, 0), split.get("num_rows")
                counts[name] = known + number if isinstance(number, int) and known is not None else None
        return {name: "…" if number is None else fmt.count(number) for name, number in counts.items()}


class DatasetFeed:
    """Asks the data worker about one dataset at a time.

    Attributes:
        changed: published whenever something about it changed.
    """

    def __init__(self, app: App[Any], worker: WorkerClient) -> None:
        self._app = app
        self._worker = worker
        self._key: tuple[object, ...] = ()
        self._config: dict[str, Any] = {}
        self._samples: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self.state = DatasetState()
        self.changed: Signal[DatasetState] = Signal(app, "dataset-changed")

    def open(self, config: RunConfig, *, again: bool = False) -> None:
        """Open the dataset of a configuration, unless it is the one that is open."""
        key = (config.data, config.model, config.stage)
        if key == self._key and not again:
            return
        self._key = key
        self._config = config.model_dump(mode="json")
        self._samples = OrderedDict()
        if config.data.path is None and not config.data.sources:
            self._become(DatasetState())
            return
        self._become(DatasetState(is_opening=True, progress="opening"))
        self._start(self._open(), "dataset")

    async def _open(self) -> None:
        try:
            info = await self._worker.call("open", {"config": self._config}, self._on_open_progress)
        except WorkbenchError as error:
            self._become(DatasetState(error=error))
            return
        num_rows, at_least = info.get("num_rows"), info.get("num_rows_at_least") or 0
        self._become(DatasetState(info=info, num_rows=num_rows, num_rows_at_least=at_least))
        if num_rows is None:
            self._start(self._count(), "count")
        self.judge()
        self._start(self._describe(), "shape")

    def _on_open_progress(self, item: Any) -> None:
        if isinstance(item, dict):
            self._become(replace(self.state, progress=progress_text(item)))

    async def _count(self) -> None:
        try:
            answer = await self._worker.call("count", {"config": self._config}, self._on_count)
        except WorkbenchError as error:
            self._become(replace(self.state, error=error))
            return
        self._become(replace(self.state, num_rows=answer["num_rows"], num_rows_at_least=answer["num_rows"]))

    def _on_count(self, item: Any) -> None:
        if isinstance(item, dict) and item.get("task") == "counting" and isinstance(item.get("done"), int):
            self._become(replace(self.state, num_rows_at_least=max(item["done"], self.state.num_rows_at_least)))

    def judge(self) -> None:
        """Judge the whole set; what was judged before is known at once."""
        self._become(replace(self.state, verdict_progress=(0, self.state.num_rows), is_judging_stopped=False))
        self._start(self._judge(), "verdict")

    def stop_judging(self) -> bool:
        """End the judging; whether there was one."""
        if self.state.verdict_progress is None:
            return False
        self._app.workers.cancel_group(self._app, "verdict")
        self._become(replace(self.state, verdict_progress=None, is_judging_stopped=True))
        return True

    async def _judge(self) -> None:
        try:
            verdict = await self._worker.call("verdict", {"config": self._config}, self._on_verdict_progress)
        except WorkbenchError as error:
            self._become(replace(self.state, error=error, verdict_progress=None))
            return
        self._become(replace(self.state, verdict=verdict, verdict_progress=None))

    def _on_verdict_progress(self, item: Any) -> None:
        if isinstance(item, dict) and isinstance(item.get("done"), int):
            self._become(replace(self.state, verdict_progress=(item["done"], item.get("total"))))

    async def _describe(self) -> None:
        try:
            shape = await self._worker.call("describe_model", {"config": self._config})
        except WorkbenchError:
            shape = None
        self._become(replace(self.state, shape=shape))

    # Rows

    async def rows(self, start: int, stop: int, columns: Sequence[str], query: RowQuery) -> list[dict[str, Any]]:
        """The cells of some rows, of those that a query shows.

        Raises:
            WorkbenchError: they cannot be read.
        """
        where = {"start": start, "stop": stop, "columns": list(columns), "query": query.to_dict()}
        answer = await self._ask("rows", where)
        return list(answer.get("rows") or ())

    async def select(self, query: RowQuery, on_progress: Callable[[dict[str, Any]], None]) -> int:
        """Find the rows of a query; returns how many there are. Cancelling ends the search.

        Args:
            query: the query.
            on_progress: is told how many rows were searched ("done" of "total") and "found".

        Raises:
            WorkbenchError: the query cannot be answered.
        """
        answer = await self._ask("select", {"query": query.to_dict()}, on_progress)
        return int(answer["num_rows"])

    async def find(self, query: RowQuery, row: int, direction: int) -> dict[str, Any]:
        """The "line" and number of the next (1) or previous (-1) "row" of a query, or of that row itself (0).

        Raises:
            WorkbenchError: the query cannot be answered.
        """
        return await self._ask("find", {"query": query.to_dict(), "row": row, "direction": direction})

    async def columns(self, source: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What could play which role; whatever the draft says of format and columns.

        Args:
            source: look at this one of several that are mixed, as the configuration has it.

        Raises:
            WorkbenchError: the data cannot be read.
        """
        data = {**self._config["data"], "format": "auto", "columns": {}}
        if source is not None:
            own = {name: value for name, value in source.items() if name not in ("weight", "format", "columns")}
            data |= {"sources": [], "eval_split": None, **own}
        answer: dict[str, Any] = await self._worker.call("columns", {"config": {**self._config, "data": data}})
        return answer

    async def list_folder(self, path: str) -> dict[str, Any]:
        """Folders and data files of a folder.

        Raises:
            WorkbenchError: the worker is gone.
        """
        answer: dict[str, Any] = await self._worker.call("list_folder", {"path": path})
        return answer

    # Tokens

    async def sample(self, row: int, piece: int = 0) -> dict[str, Any]:
        """One row, or a piece of one that is split, as it will be trained on: tokens, spans, record.

        Raises:
            WorkbenchError: it cannot be rendered.
        """
        if piece:
            return await self._ask("sample", {"row": row, "piece": piece})
        samples = self._samples
        answer = samples[row] = samples.get(row) or await self._ask("sample", {"row": row})
        samples.move_to_end(row)
        while len(samples) > _KEPT_SAMPLES:
            samples.popitem(last=False)
        return answer

    def known_sample(self, row: int) -> dict[str, Any] | None:
        """What `sample` would answer, if that is here already."""
        return self._samples.get(row)

    def fetch_ahead(self, rows: Sequence[int]) -> None:
        """Get samples that are likely to be looked at next."""
        if wanted := [row for row in rows if row not in self._samples]:
            self._start(self._fetch(wanted), "ahead")

    async def _fetch(self, rows: Sequence[int]) -> None:
        # whoever looks at the row is told what is wrong with it
        with suppress(WorkbenchError):
            for row in rows:
                await self.sample(row)

    async def sample_as(self, row: int, template: str) -> dict[str, Any]:
        """One row as another chat template would have it; an empty name is the model's own.

        Raises:
            WorkbenchError: there is no such template, or the row cannot be rendered.
        """
        return await self._ask("sample_as", {"row": row, "template": template})

    async def templates(self, config: RunConfig) -> list[dict[str, str]]:
        """Name and source of the chat templates there are for the model of a configuration.

        Raises:
            WorkbenchError: its tokenizer cannot be had.
        """
        answer = await self._worker.call("templates", {"config": config.model_dump(mode="json")})
        return list(answer["templates"])

    async def tokens(self, row: int, start: int, piece: int = 0) -> dict[str, Any]:
        """Further tokens of a row.

        Raises:
            WorkbenchError: it cannot be rendered.
        """
        return await self._ask("tokens", {"row": row, "start": start, "piece": piece})

    async def whole(self, row: int, what: str, piece: int = 0) -> str:
        """All of a row's "text", "record" or "ids".

        Raises:
            WorkbenchError: it cannot be rendered.
        """
        return str((await self._ask("whole", {"row": row, "what": what, "piece": piece}))["text"])

    async def batch(self, rows: list[int], piece: int, size: int) -> dict[str, Any]:
        """Some rows, from a piece of the first one on, as the collator makes a batch of that size of them.

        Raises:
            WorkbenchError: they cannot be rendered.
        """
        return await self._ask("batch", {"rows": rows, "piece": piece, "size": size})

    async def _ask(
        self, method: str, params: dict[str, Any], on_item: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        where = {"config": self._config, "split": self.state.info.get("split")}
        answer: dict[str, Any] = await self._worker.call(method, {**where, **params}, on_item)
        return answer

    def _become(self, state: DatasetState) -> None:
        self.state = state
        self.changed.publish(state)

    def _start(self, work: Coroutine[Any, Any, None], group: str) -> None:
        self._app.run_worker(work, group=group, exclusive=True, exit_on_error=False)


def progress_text(item: dict[str, Any]) -> str:
    """A progress item of a worker as text."""
    done, total = item.get("done"), item.get("total")
    share = f" {done / total:.0%}" if isinstance(done, int) and isinstance(total, int) and total else ""
    return f"{item.get('task', 'working')}{share}"
