"""The groups of fields, each with how many of its fields were changed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from tui_trainer.tui.widgets.cursor_list import CursorList, Parts


class GroupList(CursorList):
    """Names with counts."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._groups: Sequence[tuple[str, int]] = ()

    def show(self, groups: Sequence[tuple[str, int]]) -> None:
        """Show names and counts; the cursor starts on the second line, the first group proper."""
        is_first = not self._groups
        self._groups = groups
        self.set_num_lines(len(groups), cursor=1 if is_first else None)

    @property
    def name_under_cursor(self) -> str:
        """The name of the group under the cursor."""
        return self._groups[self.cursor][0] if self._groups else ""

    def go_to(self, name: str) -> None:
        """Put the cursor on a group."""
        for line, (group, _) in enumerate(self._groups):
            if group == name:
                self.move_cursor(line)

    def line_parts(self, line: int) -> Parts:
        """Name and count."""
        name, count = self._groups[line]
        width = max(self.size.width - 5, 4)
        shown = name if cell_len(name) <= width else f"{set_cell_size(name, width - 1)}…"
        return ((f" {set_cell_size(shown, width)}", ""), (f"{count:>3}" if count else "   ", "list--accent"))
