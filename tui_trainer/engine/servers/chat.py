"""The chat worker: loads a model, answers, streams, stops; one process beside the front end.

Methods: `load` {model, adapter?, device?, dtype?}, `generate` {messages | prompt, params, template_kwargs?}, `unload`.
The libraries are loaded with the first model, so that an unused worker costs little.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tui_trainer.engine.generate.question import Question
from tui_trainer.engine.report import Report
from tui_trainer.engine.servers.progress import with_progress
from tui_trainer.engine.threads import wait_asleep
from tui_trainer.errors import UsageError
from tui_trainer.wire.server import Cancellation, Method, serve_stdio

if TYPE_CHECKING:
    from tui_trainer.engine.generate.session import ChatSession

_POLL_SECONDS = 0.05


class ChatServer:
    """The methods of the worker. One thing is done at a time: who comes second waits, and can be cancelled waiting."""

    def __init__(self) -> None:
        self._session: ChatSession | None = None
        self._lock = threading.Lock()

    @property
    def methods(self) -> Mapping[str, Method]:
        """Method name to generator function."""
        return {"load": self.load, "generate": self.generate, "unload": self.unload}

    def load(
        self, params: dict[str, Any], cancellation: Cancellation
    ) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """Load a model in place of the one that is there; returns `ChatSession.describe()`."""
        settings = {name: str(params[name]) for name in ("adapter", "device", "dtype") if params.get(name)}

        def task(report: Report) -> ChatSession:
            report("loading the libraries", None, None)
            from tui_trainer.engine.generate.session import ChatSession

            return ChatSession.load(str(params.get("model") or ""), report=report, **settings)

        with self._alone(cancellation):
            self._drop()
            self._session = yield from with_progress(task, cancellation)
            return self._session.describe()

    def generate(
        self, params: dict[str, Any], cancellation: Cancellation
    ) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """Answer a question; returns the document of `chat --json`."""
        with self._alone(cancellation):
            if self._session is None:
                raise UsageError("no model is loaded", remedy="Choose one first.")
            question = Question(
                messages=params.get("messages") or (),
                prompt=params.get("prompt"),
                params=params.get("params") or {},
                template_kwargs=params.get("template_kwargs") or {},
            )
            return (yield from self._session.answer(question, lambda: cancellation.is_cancelled))

    def unload(
        self,
        params: dict[str, Any],  # noqa: ARG002 - the signature is that of all methods
        cancellation: Cancellation,
    ) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """Give the model's memory back."""
        with self._alone(cancellation):
            self._drop()
        yield from ()
        return {}

    def _drop(self) -> None:
        if self._session is None:
            return
        self._session = None
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @contextmanager
    def _alone(self, cancellation: Cancellation) -> Iterator[None]:
        while not self._lock.acquire(timeout=_POLL_SECONDS):
            cancellation.check()
        try:
            yield
        finally:
            self._lock.release()


if __name__ == "__main__":
    wait_asleep()
    serve_stdio("chat", ChatServer().methods)
