"""Choosing a chat template: the model's own, those of the library, a file; a row is shown as each would have it."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on, work
from textual.app import ComposeResult
from textual.widgets import OptionList

from tui_trainer.errors import WorkbenchError
from tui_trainer.tui.feeds.dataset import DatasetFeed
from tui_trainer.tui.widgets.sample import Sample
from tui_trainer.tui.widgets.search_pick import SearchPick
from tui_trainer.tui.widgets.token_flow import TokenFlow

_ABOUT = "Type to search, or the path of a .jinja file. What is trained stands out in the row below the list."
_BREAKPOINTS = [(0, "-low"), (30, "-high")]
SOURCES = {
    "model": "of the model",
    "builtin": "of this workbench",
    "package": "of the package trl",
    "file": "in this folder",
    "none": "turns follow each other without any template",
}
"""Where a template comes from, by `source` of `known_templates`."""


class PickTemplate(SearchPick):
    """Returns a value for `data.template`, empty for the model's own; None when it was left.

    Args:
        feed: renders the row.
        templates: name and source of each, as the data worker knows them.
        current: `data.template` as it is.
        row: the row to show, None where no dataset is open.
    """

    VERTICAL_BREAKPOINTS = _BREAKPOINTS
    DEFAULT_CSS = """
    PickTemplate {
        & > Vertical { max-width: 110; }
        & OptionList { height: 7; }
        & TokenFlow { height: 8; margin: 1 0; }
        &.-low OptionList { height: 5; }
        &.-low TokenFlow { height: 6; margin: 1 0 0 0; }
    }
    """

    def __init__(
        self, feed: DatasetFeed, templates: Sequence[dict[str, str]], current: str, row: int | None = None
    ) -> None:
        options = [
            (found["name"], found["name"] or "the model's own", SOURCES[found["source"]] if found["name"] else "")
            for found in templates
        ]
        super().__init__("data.template", options, current, "search, or type the path of a file", _ABOUT)
        self._feed, self._row = feed, row

    def compose_below(self) -> ComposeResult:
        """The row as the marked template has it."""
        if self._row is not None:
            flow = TokenFlow()
            flow.can_focus = False
            yield flow

    @on(OptionList.OptionHighlighted)
    def _marked(self) -> None:
        if self._row is not None and self.marked is not None:
            self._render_row(self._row, self.marked)

    @work(group="template", exclusive=True, exit_on_error=False)
    async def _render_row(self, row: int, template: str) -> None:
        flow = self.query_one(TokenFlow)
        try:
            sample = Sample.of(await self._feed.sample_as(row, template))
        except WorkbenchError as error:
            flow.show(None)
            self.tell(str(error))
            return
        self.tell("")
        flow.show(sample)
