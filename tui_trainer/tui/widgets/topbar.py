"""The first line of every screen: the five modes, the run in view, the machine."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

MODES: tuple[tuple[str, str, str], ...] = (
    ("1", "data", "Data"),
    ("2", "args", "Args"),
    ("3", "train", "Train"),
    ("4", "chat", "Chat"),
    ("5", "runs", "Runs"),
)
"""Key, name and title of each mode."""


class TopBar(Widget):
    """Shows where one is and how the run in view stands (`run`, its forms from long to short).

    Args:
        mode: name of the mode this bar stands on.
    """

    DEFAULT_CSS = """
    TopBar {
        dock: top;
        height: 1;
        background: $surface;
        color: $text-muted;
    }
    """

    run: reactive[tuple[Content, ...]] = reactive(())
    machine: reactive[Content] = reactive(Content(""))

    def __init__(self, mode: str) -> None:
        super().__init__()
        self._mode = mode

    def render(self) -> Content:
        """Modes at the left; at the right the longest form of the run's state that fits, and the machine."""
        width = self.size.width
        modes = Content.assemble(*(part for key, name, title in MODES for part in self._mode_parts(key, name, title)))
        room = width - modes.cell_length - 1
        right = next((form for form in self.run if form.cell_length <= room), Content(""))
        if self.machine.plain and right.cell_length + self.machine.cell_length + 2 <= room:
            right = Content.assemble(right, "  ", self.machine)
        gap = max(width - modes.cell_length - right.cell_length, 0)
        return Content.assemble(modes, " " * gap, right)

    def _mode_parts(self, key: str, name: str, title: str) -> tuple[tuple[str, str], ...]:
        if name == self._mode:
            return ((f" {key} {title} ", "bold $background on $primary"),)
        return ((f" {key}", "$accent"), (f" {title} ", "$text-muted"))
