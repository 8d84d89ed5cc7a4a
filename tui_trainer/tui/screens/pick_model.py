"""Choosing a model: a line to search or to type in, the known models below; a server is asked what it has."""

from __future__ import annotations

from collections.abc import Sequence

from textual import work

from tui_trainer.errors import WorkbenchError
from tui_trainer.tui.services import WorkerClient
from tui_trainer.tui.widgets.search_pick import KnownOption, SearchPick

_ABOUT = (
    "Type to search, or type what is not in the list: a hub id, a folder, a .gguf file, RUN, RUN@STEP, RUN@best, "
    "BASE + ADAPTER, or http://host:port/v1 of a server."
)


class PickModel(SearchPick):
    """Returns a reference, None when it was left.

    Args:
        title: what the model is for.
        options: the known models.
        current: the reference to begin on.
        worker: asks servers which models they have.
    """

    def __init__(self, title: str, options: Sequence[KnownOption], current: str, worker: WorkerClient) -> None:
        super().__init__(title, options, current, "search, or type a reference", _ABOUT)
        self._worker = worker

    def take(self) -> None:
        """Answer with what is marked; the address of a server is asked for its models first."""
        text = self.typed
        if text.startswith(("http://", "https://")) and "#" not in text:
            self._ask_server(text)
        else:
            super().take()

    @work(group="server", exclusive=True, exit_on_error=False)
    async def _ask_server(self, url: str) -> None:
        """List the models of a server in place of the known ones."""
        self.tell(f"asking {url} …")
        try:
            answer = await self._worker.call("servers", {"url": url})
        except WorkbenchError as error:
            self.tell(str(error))
            return
        base = str(answer.get("url") or url)
        dialect = str(answer.get("dialect") or "server")
        lacks = ", ".join(answer.get("untranslatable") or ())
        note = f"{dialect}{f', without {lacks}' if lacks else ''}"
        options = [(f"{base}#{model}", str(model), note) for model in answer.get("models") or ()]
        self.offer(options)
        self.tell("" if options else f"{base} has no model")
