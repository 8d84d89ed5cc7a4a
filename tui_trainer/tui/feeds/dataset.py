"""The dataset of the draft, as the data worker sees it: opened, paged, tokenised, judged."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from textual.app import App
from textual.signal import Signal

from tui_trainer.errors import WorkbenchError
from tui_trainer.tui.services import WorkerClient

if TYPE_CHECKING:
    from tui_trainer.config.schema import RunConfig


@dataclass(frozen=True)
class DatasetState:
    """What is known of the dataset.

    Attributes:
        is_opening: the worker is at it.
        info: the worker's answer to `open`.
        error: why it cannot be used.
        progress: what the worker is doing, with done and total.
        verdict: the judgement over the whole set.
        verdict_progress: rows judged so far, and in all.
        shape: sizes of the model, as `describe_model` gives them.
    """

    is_opening: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    error: WorkbenchError | None = None
    progress: str = ""
    verdict: dict[str, Any] | None = None
    verdict_progress: tuple[int, int | None] | None = None
    shape: dict[str, Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether rows can be asked for."""
        return bool(self.info)

    @property
    def num_rows(self) -> int | None:
        """Rows of the split to train on, None while they are counted."""
        number = self.info.get("num_rows")
        return number if isinstance(number, int) else None


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
        self.state = DatasetState()
        self.changed: Signal[DatasetState] = Signal(app, "dataset-changed")

    def open(self, config: RunConfig, *, again: bool = False) -> None:
        """Open the dataset of a configuration, unless it is the one that is open."""
        key = (config.data, config.model, config.stage)
        if key == self._key and not again:
            return
        self._key = key
        self._config = config.model_dump(mode="json")
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
        self._become(DatasetState(info=info))
        self._start(self._judge(), "verdict")
        self._start(self._describe(), "shape")

    def _on_open_progress(self, item: Any) -> None:
        if isinstance(item, dict):
            self._become(replace(self.state, progress=progress_text(item)))

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

    async def rows(self, start: int, stop: int) -> dict[str, Any]:
        """The cells of some rows.

        Raises:
            WorkbenchError: they cannot be read.
        """
        params = {"config": self._config, "split": self.state.info.get("split"), "start": start, "stop": stop}
        answer: dict[str, Any] = await self._worker.call("rows", params)
        return answer

    async def sample(self, row: int) -> dict[str, Any]:
        """One row as it will be trained on: tokens, labels, spans.

        Raises:
            WorkbenchError: it cannot be rendered.
        """
        params = {"config": self._config, "split": self.state.info.get("split"), "row": row}
        answer: dict[str, Any] = await self._worker.call("sample", params)
        return answer

    async def batch(self, rows: list[int]) -> dict[str, Any]:
        """Some rows as the collator makes a batch of them.

        Raises:
            WorkbenchError: they cannot be rendered.
        """
        params = {"config": self._config, "split": self.state.info.get("split"), "rows": rows}
        answer: dict[str, Any] = await self._worker.call("batch", params)
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
