"""A form over the Train screen: what can be changed while the run goes on, its present values, what new ones do."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_trainer.runs.snapshot import RunView
from tui_trainer.text import safe
from tui_trainer.tui.live_fields import FIELDS, LiveRun, effects, help_of, live_run, parse_change, rate_curve
from tui_trainer.tui.widgets.chart import Chart, Curve, Mark, Plot
from tui_trainer.tui.widgets.sheet import Sheet

_OTHER_END = {"max_steps": "num_train_epochs", "num_train_epochs": "max_steps"}


class LiveSettings(Sheet[dict[str, Any] | None]):
    """Lists the fields; returns what is to be set, None when it was left without.

    Args:
        run: what the run does at present.
        field: the field to begin with.
        is_typing: begin with typing its new value.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "escape", "back", "Back", id="live-back", tooltip="Leave the field; from the list, leave without a change"
        ),
        Binding("s", "send", "Send", id="live-send", tooltip="Send what was changed to the run"),
        Binding("u", "undo", "Undo", id="live-undo", tooltip="Take back the change of this field"),
        Binding("j", "move(1)", "Down", show=False, id="live-down", tooltip="Next field"),
        Binding("k", "move(-1)", "Up", show=False, id="live-up", tooltip="Field before"),
    ]
    DEFAULT_CSS = """
    LiveSettings {
        & > Vertical { width: 92%; max-width: 100; height: 94%; max-height: 30; }
        & OptionList, & OptionList:focus { border: none; padding: 0; background: $surface; height: 9; }
        & Input, & Input:focus { border: none; height: 1; padding: 0; background: $boost; }
        & #live-error { color: $error; }
        & #live-help { color: $text-muted; max-height: 3; }
        & Chart { height: 1fr; min-height: 4; }
    }
    """

    def __init__(self, run: LiveRun, field: str, *, is_typing: bool = False) -> None:
        super().__init__()
        self._run = run
        self._first = field
        self._is_typing = is_typing
        self._changes: dict[str, Any] = {}
        self._ended_as = ""

    def compose(self) -> ComposeResult:
        """Fields, a line to type into, what that means, the learning rate before and after."""
        with Vertical() as box:
            box.border_title = "Change while it runs"
            yield OptionList(*(Option(self._line(name)) for name in FIELDS))
            yield Input(id="live-value", disabled=True)
            yield Static("", id="live-error", markup=False)
            yield Static("", id="live-help", markup=False)
            yield Chart(Plot("learning rate"))

    def on_mount(self) -> None:
        """Begin on the field that was asked for."""
        self._list.highlighted = FIELDS.index(self._first)
        self._list.focus()
        self._show()
        if self._is_typing:
            self._edit()

    @property
    def _list(self) -> OptionList:
        return self.query_one(OptionList)

    @property
    def _field(self) -> str:
        return FIELDS[self._list.highlighted or 0]

    def _line(self, name: str) -> Content:
        now = self._run.values.get(name)
        parts: list[tuple[str, str]] = [(f"{name:<18}", ""), (f"{_shown(now):>12}", "$text-muted")]
        if name in self._changes:
            parts.append((f"  → {_shown(self._changes[name])}", "bold $accent"))
        return Content.assemble(*parts)

    def _show(self) -> None:
        for at, name in enumerate(FIELDS):
            self._list.replace_option_prompt_at_index(at, self._line(name))
        self.query_one(Vertical).border_subtitle = self._keys()
        told = list(effects(self._run, self._changes)) if self._changes else []
        text = "; ".join(told) if told else help_of(self._field, self._run)
        self.query_one("#live-help", Static).update(Content(safe(text)))
        now, after = rate_curve(self._run), rate_curve(self._run.changed(self._changes))
        curves = [Curve(now, "band"), Curve(after)] if self._changes else [Curve(now)]
        end = max(self._run.max_steps, self._run.changed(self._changes).max_steps)
        note = "dim: as it is · bright: as it would be" if self._changes else ""
        plot = Plot("learning rate", curves, [Mark(self._run.step, "▾")], note=note, from_zero=True, x_max=end)
        self.query_one(Chart).show(plot)

    def _keys(self) -> str:
        """What the keys do now; how many changes wait to be sent."""
        if self._ended_as:
            return "esc leaves"
        waiting = len(self._changes)
        sends = f"s sends {waiting} change{'s' if waiting != 1 else ''}" if waiting else "nothing to send yet"
        return f"enter edits · {sends} · u takes back · esc leaves"

    def follow(self, view: RunView) -> None:
        """Show from the step where the run is now what a change would do; say so once nothing can be sent any more."""
        if self._ended_as:
            return
        self._run = live_run(self._run.training, view)
        self._ended_as = view.status.state.value if view.status.state.is_over else ""
        self._show()
        if self._ended_as:
            self._say_ended()

    def _say_ended(self) -> None:
        text = f"The run is {self._ended_as}: nothing can be changed any more. r on Train resumes it."
        self.query_one("#live-error", Static).update(Content(safe(text)))

    @on(OptionList.OptionHighlighted)
    def _another_field(self) -> None:
        if self._list.has_focus:
            self._show()

    @on(OptionList.OptionSelected)
    def _edit(self) -> None:
        if self._field == "schedule":
            self._change(self._field, "keep" if self._value_of("schedule") == "stretch" else "stretch")
            return
        line = self.query_one(Input)
        line.disabled = False
        line.value = _shown(self._value_of(self._field)) if self._value_of(self._field) is not None else ""
        line.focus()
        line.select_all()

    def _value_of(self, name: str) -> Any:
        return self._changes.get(name, self._run.values.get(name))

    @on(Input.Changed)
    def _judge(self, event: Input.Changed) -> None:
        if not event.input.disabled:
            self._parsed(event.value)

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        value = self._parsed(event.value)
        if value is not None:
            self._change(self._field, value)
            self._leave_line()

    def _parsed(self, text: str) -> Any:
        error, value = "", None
        try:
            value = parse_change(self._field, text.strip(), self._run)
        except ValueError as problem:
            error = str(problem)
        self.query_one("#live-error", Static).update(Content(safe(error)))
        return value

    def _change(self, name: str, value: Any) -> None:
        self._changes.pop(_OTHER_END.get(name, ""), None)
        self._changes[name] = value
        if value == self._run.values.get(name):
            del self._changes[name]
        self._show()

    def _leave_line(self) -> None:
        line = self.query_one(Input)
        line.disabled, line.value = True, ""
        self.query_one("#live-error", Static).update("")
        if self._ended_as:
            self._say_ended()
        self._list.focus()

    def action_back(self) -> None:
        """Leave the line, or the form."""
        if self.query_one(Input).has_focus:
            self._leave_line()
        else:
            self.dismiss(None)

    def action_undo(self) -> None:
        """Take back the change of this field."""
        self._changes.pop(self._field, None)
        self._show()

    def action_move(self, step: int) -> None:
        """Another field."""
        self._list.action_cursor_down() if step > 0 else self._list.action_cursor_up()

    def action_send(self) -> None:
        """Return what was changed, unless there is no run any more that could take it."""
        if self._ended_as:
            self._say_ended()
            return
        if not {*self._changes} & {*_OTHER_END}:
            self._changes.pop("schedule", None)
        self.dismiss(self._changes or None)


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "–"
    if isinstance(value, int) or (isinstance(value, float) and value == int(value) and abs(value) < 1e9):
        return str(int(value))
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else safe(str(value))
