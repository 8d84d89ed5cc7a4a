"""Knobs as a list: name, value, where the value came from; used by the Data, Args and Chat screens.

The list shows and asks. Whoever owns the values answers `ValueTyped` by changing them and calls `show` again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual.binding import Binding, BindingType
from textual.message import Message

from tui_trainer.text import safe_line
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts

LAYER_SIGNS = {"default": " ", "preset": "◇", "file": "◆", "typed": "●", "model": "◈"}
"""One sign a layer, so that it does not depend on colour."""


@dataclass(frozen=True)
class Field:
    """One line of the list.

    Attributes:
        key: names the field to its owner; empty for a heading.
        label: what stands at the left.
        value: its value as text.
        layer: where the value came from, a key of `LAYER_SIGNS`.
        kind: kind of the knob; "bool" toggles, "choice" steps through `choices`.
        choices: permitted texts.
        note: shown dim after the value, as the unit.
        has_problem: whether a problem names the field.
        is_ignored: whether the value has no effect as things stand.
    """

    key: str
    label: str
    value: str = ""
    layer: str = "default"
    kind: str = "text"
    choices: tuple[str, ...] = ()
    note: str = ""
    has_problem: bool = False
    is_ignored: bool = False


class FieldList(CursorList):
    """Fields that can be stepped, edited and reset by keyboard."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "Previous value", show=False, id="field-previous", tooltip="Previous choice"),
        Binding("right,l", "step(1)", "Next value", show=False, id="field-next", tooltip="Next choice"),
        Binding("space", "step(1)", "Toggle", show=False, id="field-toggle", tooltip="Toggle, or next choice"),
        Binding("backspace,delete", "reset", "Reset", show=False, id="field-reset", tooltip="Back to the layer below"),
    ]

    class ValueTyped(Message):
        """A field was given a text by stepping; `control` is the list."""

        def __init__(self, control: FieldList, key: str, text: str) -> None:
            super().__init__()
            self.key, self.text = key, text
            self._control = control

        @property
        def control(self) -> FieldList:
            """The list."""
            return self._control

    class EditRequested(ValueTyped):
        """A field is to be edited; `text` is its present value."""

    class ResetRequested(ValueTyped):
        """A field is to be given back to the layer below."""

    def __init__(self, *, label_width: int = 0, id: str | None = None) -> None:
        super().__init__(id=id)
        self._fields: Sequence[Field] = ()
        self._fixed_label_width = label_width
        self._label_width = label_width

    def show(self, fields: Sequence[Field]) -> None:
        """Show these fields; the cursor stays on the field it was on."""
        key = self.field.key if self.field else ""
        self._fields = fields
        longest = max((cell_len(field.label) for field in fields if field.key), default=0)
        self._label_width = self._fixed_label_width or min(longest, 38)
        at = next((line for line, field in enumerate(fields) if field.key == key and key), self.cursor)
        self.set_num_lines(len(fields), cursor=at)

    @property
    def field(self) -> Field | None:
        """The field under the cursor."""
        return self._fields[self.cursor] if self.cursor < len(self._fields) else None

    def go_to(self, key: str) -> bool:
        """Put the cursor on a field; whether it is in the list."""
        for line, field in enumerate(self._fields):
            if field.key == key:
                self.move_cursor(line)
                return True
        return False

    def is_selectable(self, line: int) -> bool:
        """The cursor skips headings."""
        return bool(self._fields[line].key)

    def line_parts(self, line: int) -> Parts:
        """Sign of the layer, label, value, note."""
        field = self._fields[line]
        if not field.key:
            return ((f" {field.label}", "list--head"),)
        sign = "!" if field.has_problem else LAYER_SIGNS.get(field.layer, " ")
        name = safe_line(field.label)
        label = set_cell_size(name, max(self._label_width, cell_len(name)))
        is_set = field.layer != "default"
        value_style = "list--dim" if field.is_ignored else "list--strong" if is_set else ""
        value = safe_line(field.value) or "–"
        return (
            (f" {sign} ", "list--bad" if field.has_problem else "list--accent"),
            (f"{label}  ", "" if is_set else "list--dim"),
            (value, value_style if field.value else "list--dim"),
            (f" {field.note}" if field.note else "", "list--dim"),
            (" (ignored)" if field.is_ignored else "", "list--warn"),
        )

    def action_step(self, direction: int) -> None:
        """Toggle a switch or take the next choice; anything else is edited."""
        field = self.field
        if field is None or not field.key:
            return
        if field.kind == "bool":
            self.post_message(self.ValueTyped(self, field.key, "false" if field.value == "true" else "true"))
        elif field.choices:
            at = field.choices.index(field.value) if field.value in field.choices else -direction
            following = field.choices[(at + direction) % len(field.choices)]
            self.post_message(self.ValueTyped(self, field.key, following))

    def action_choose(self) -> None:
        """Edit the field; a switch is toggled."""
        field = self.field
        if field is None or not field.key:
            return
        if field.kind == "bool":
            self.action_step(1)
        else:
            self.post_message(self.EditRequested(self, field.key, field.value))

    def action_reset(self) -> None:
        """Give the field back to the layer below."""
        if self.field is not None and self.field.key:
            self.post_message(self.ResetRequested(self, self.field.key, ""))
