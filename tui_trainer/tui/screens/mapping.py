"""The dialog that says what the rows hold: their format, and which column, however deep, plays which role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui_trainer.text import safe, safe_line
from tui_trainer.tui.widgets.ask import AskText, Pick
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts
from tui_trainer.tui.widgets.sheet import Sheet

_TYPE_A_PATH = "\0type"
_ROLE_WIDTH = 16


class RoleList(CursorList):
    """The format, then its roles with their columns."""

    def __init__(self) -> None:
        super().__init__(id="roles")
        self.format = ""
        self.required: Sequence[str] = ()
        self.roles: Sequence[str] = ()
        self.columns: dict[str, str] = {}
        self._examples: Mapping[str, str] = {}

    def show(self, name: str, roles: Mapping[str, Any], columns: dict[str, str], examples: Mapping[str, str]) -> None:
        """Show a format.

        Args:
            name: the format.
            roles: its `required` and `optional` roles.
            columns: role to dotted column.
            examples: dotted column to a value in it.
        """
        self.format, self.columns, self._examples = name, columns, examples
        self.required = list(roles.get("required") or ())
        self.roles = [*self.required, *(roles.get("optional") or ())]
        self.set_num_lines(len(self.roles) + 1)

    @property
    def role(self) -> str:
        """The role under the cursor, empty on the format."""
        return self.roles[self.cursor - 1] if self.cursor else ""

    def line_parts(self, line: int) -> Parts:
        """Name and value."""
        if line == 0:
            return ((f" {'format':<{_ROLE_WIDTH}}  ", "list--dim"), (safe_line(self.format), "list--strong"))
        role = self.roles[line - 1]
        column = self.columns.get(role)
        if column is None:
            is_needed = role in self.required
            value = ("needed: choose a column", "list--bad") if is_needed else ("–", "list--dim")
            return ((f" {role:<{_ROLE_WIDTH}}  ", "list--dim"), value)
        example = safe_line(self._examples.get(column, ""))
        return (
            (f" {role:<{_ROLE_WIDTH}}  ", "list--dim"),
            (f"← {safe_line(column)}", "list--strong"),
            (f"  {example}", "list--dim"),
        )


class MappingScreen(Sheet[tuple[str, dict[str, str]] | None]):
    """A sheet over the screen; its answer is the format with role to dotted column.

    Args:
        found: the data worker's answer to `columns`: what was detected, and what could be chosen.
        name: the format that holds now; "auto" for the detected one.
        columns: the columns that were mapped by hand.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Cancel", id="mapping-cancel", tooltip="Leave without a change"),
        Binding("s", "take", "Take it", id="mapping-take", tooltip="Take format and columns"),
        Binding("backspace,delete", "clear", "Clear", id="mapping-clear", tooltip="No column for this role"),
    ]
    DEFAULT_CSS = """
    MappingScreen {
        & > Vertical { width: 94%; max-width: 100; }
        & Static { color: $text-muted; }
        & RoleList { height: auto; max-height: 14; background: $surface; margin: 1 0; }
    }
    """

    def __init__(self, found: dict[str, Any], name: str, columns: Mapping[str, str]) -> None:
        super().__init__()
        self._found = found
        self._formats: dict[str, Any] = found.get("formats") or {}
        self._paths: list[dict[str, str]] = list(found.get("paths") or ())
        self._examples = {item["path"]: item["example"] for item in self._paths}
        self._first = name if name != "auto" else str(found.get("format"))
        self._columns = {**(self._detected(self._first)), **columns}

    def compose(self) -> ComposeResult:
        """The roles with what they hold."""
        with Vertical() as box:
            box.border_title = "What the rows hold"
            box.border_subtitle = "enter changes · s takes it · esc leaves"
            yield Static(
                Content("Which column plays which role. Dots reach into nested columns: answer.text, turns.0.value.")
            )
            yield RoleList()
            yield Static(Content(""), id="mapping-note")

    def on_mount(self) -> None:
        """Show what was detected, or what was set before."""
        self._show(self._first if self._first in self._formats else "prompt_completion", self._columns)
        self.query_one(RoleList).focus()

    def _detected(self, name: str) -> dict[str, str]:
        """The columns found for a format; for another one those whose names are its roles."""
        if name == self._found.get("format"):
            return dict(self._found.get("columns") or {})
        roles = self._formats.get(name) or {}
        named = [*(roles.get("required") or ()), *(roles.get("optional") or ())]
        return {role: role for role in named if role in self._examples}

    def _show(self, name: str, columns: Mapping[str, str]) -> None:
        roles = self._formats.get(name) or {}
        known = {*(roles.get("required") or ()), *(roles.get("optional") or ())}
        kept = {role: column for role, column in columns.items() if role in known}
        self.query_one(RoleList).show(name, roles, kept, self._examples)

    @on(CursorList.Chosen, "#roles")
    def _edit(self) -> None:
        listing = self.query_one(RoleList)
        if not listing.role:
            options = [(name, name, " + ".join(roles.get("required") or ())) for name, roles in self._formats.items()]
            self.app.push_screen(Pick("Format of the rows", options, listing.format), self._format_chosen)
            return
        options = [
            (item["path"], item["path"], f"{item['type']}  {safe_line(item['example'])}") for item in self._paths
        ]
        options.append((_TYPE_A_PATH, "type a path …", ""))
        title = f"Column of the {listing.role}"
        self.app.push_screen(Pick(title, options, listing.columns.get(listing.role, "")), self._column_chosen)

    def _format_chosen(self, name: str | None) -> None:
        if name is not None:
            self._show(name, {**self._detected(name), **self.query_one(RoleList).columns})

    def _column_chosen(self, path: str | None) -> None:
        listing = self.query_one(RoleList)
        if path == _TYPE_A_PATH:
            about = "A column, with dots into nested ones; a number counts items of a list from 0."
            title = f"Column of the {listing.role}"
            self.app.push_screen(AskText(title, listing.columns.get(listing.role, ""), about), self._column_chosen)
        elif path:
            self._show(listing.format, {**listing.columns, listing.role: path.strip()})

    def action_clear(self) -> None:
        """No column for the role under the cursor."""
        listing = self.query_one(RoleList)
        self._show(listing.format, {role: path for role, path in listing.columns.items() if role != listing.role})

    def action_take(self) -> None:
        """Give back format and columns, if nothing is missing."""
        listing = self.query_one(RoleList)
        missing = [role for role in listing.required if role not in listing.columns]
        if missing:
            note = f"the format {listing.format} needs a column for {' and '.join(missing)}"
            self.query_one("#mapping-note", Static).update(Content.styled(safe(note), "$error"))
            return
        self.dismiss((listing.format, dict(listing.columns)))
