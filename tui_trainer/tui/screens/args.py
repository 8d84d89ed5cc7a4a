"""Screen 2: edit the run, see what each field does, launch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from tui_trainer.errors import Problem
from tui_trainer.text import safe, safe_line
from tui_trainer.tui.screens.choosing import ChoosingScreen
from tui_trainer.tui.screens.editing import LORA_KEY, about, draft_field
from tui_trainer.tui.screens.filing import FilingScreen
from tui_trainer.tui.screens.launching import LaunchingScreen
from tui_trainer.tui.widgets.chart import Chart, Curve, Plot
from tui_trainer.tui.widgets.cursor_list import CursorList
from tui_trainer.tui.widgets.field_list import Field, FieldList
from tui_trainer.tui.widgets.group_list import GroupList
from tui_trainer.tui.widgets.pairs import Pairs

if TYPE_CHECKING:
    from tui_trainer.config.catalogue import Knob
    from tui_trainer.tui.consequences import Consequences

CHANGED = "Changed"
"""The group of all fields that do not have their default."""


class ArgsScreen(ChoosingScreen, FilingScreen, LaunchingScreen):
    """Groups, fields, and what follows from them."""

    CSS_PATH = "args.tcss"
    mode = "args"
    help_text = (
        "Args: everything a run is asked to do. Groups at the left, fields in the middle with a sign for where the "
        "value came from (◇ preset, ◆ file, ● typed by you), at the right what the field does and what the whole "
        "configuration leads to: steps, learning rate, memory. Enter edits, space toggles, arrows step through "
        "choices, backspace gives a field back to the layer below. A wrong value is refused on the spot."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", key_display="/", id="args-search", tooltip="Find a field by name or help"),
        Binding("c", "changed", "Changed", id="args-changed", tooltip="Only fields that differ from their defaults"),
        Binding("u", "undo", "Undo", id="args-undo", tooltip="Take back the last change"),
        Binding("e", "problem", "Problem", show=False, id="args-problem", tooltip="To the field of the next problem"),
        Binding("x", "expert", "Expert", show=False, id="args-expert", tooltip="Show or hide fields for experts"),
        Binding("n", "edit_name", "Name", show=False, id="args-name", tooltip="Name the run"),
    ]

    def compose_body(self) -> Iterable[Widget]:
        """Groups, fields, help and consequences."""
        with Horizontal(id="body"):
            groups = GroupList(id="groups")
            groups.border_title = "Groups"
            yield groups
            with Vertical(id="middle") as middle:
                middle.border_title = "Fields"
                yield Input(placeholder="find a field by name or help", id="search", compact=True)
                yield FieldList(id="fields")
            with Vertical(id="right"):
                with VerticalScroll(id="about", can_focus=False) as pane:
                    pane.border_title = "Help"
                    yield Static(id="about-text", markup=False)
                with Vertical(id="plan") as pane:
                    pane.border_title = "What it leads to"
                    yield Pairs(id="plan-text")
                    yield Chart(Plot("learning rate"), id="rate")
        yield Static(id="problems", markup=False)

    def on_mount(self) -> None:
        """Show the draft and follow it."""
        super().on_mount()
        self._group = ""
        self._query = ""
        self._is_expert = False
        self.session.draft_changed.subscribe(self, lambda _: self._show_all())
        self.session.dataset.changed.subscribe(self, lambda _: self._show_consequences())
        self.session.dataset.open(self.session.draft.config)
        self.query_one("#search").display = False
        self._show_all()
        self.query_one("#groups").focus()

    def main_pane(self) -> Widget:
        """The fields."""
        return self.query_one("#fields")

    # What is shown

    def _show_all(self) -> None:
        from tui_trainer.config.catalogue import GROUPS, catalogue

        draft = self.session.draft
        changed = [knob for key, knob in catalogue().items() if self._is_changed(key)]
        counts = {name: sum(knob.group == name for knob in changed) for name in GROUPS}
        self.query_one(GroupList).show([(CHANGED, len(changed)), *counts.items()])
        self._group = self._group or GROUPS[0]
        title = f"{draft.config.name} · from {draft.origin}"
        self.query_one("#middle").border_title = Content(safe_line(title))
        self._show_consequences()

    def _is_changed(self, key: str) -> bool:
        draft = self.session.draft
        if key.startswith("data.sources.") or (key.startswith("lora.") and not draft.value(LORA_KEY)):
            return False
        return not draft.is_default(key)

    def _show_fields(self) -> None:
        from tui_trainer.config.catalogue import catalogue

        problems = frozenset(key for problem in self.problems for key in (problem.keys or (problem.key,)))
        knobs = [
            knob for key, knob in catalogue().items() if not key.startswith("data.sources.") and self._is_shown(knob)
        ]
        knobs.sort(key=lambda knob: _distance(knob.key, self._query.lower()))
        across = bool(self._query) or self._group == CHANGED
        lines: list[Field] = []
        if self._group == "LoRA" and not self._query:
            lines.append(draft_field(self.session.draft, LORA_KEY))
        lines.extend(draft_field(self.session.draft, knob.key, problems, full_name=across) for knob in knobs)
        if not lines:
            lines = [Field("", "nothing differs from the defaults" if self._group == CHANGED else "no such field")]
        self.query_one("#fields", FieldList).show(lines)
        self._show_about()

    def _is_shown(self, knob: Knob) -> bool:
        if self._query:
            words = self._query.lower().split()
            text = f"{knob.key} {' '.join(knob.aliases)} {knob.help}".lower()
            return all(word in text for word in words)
        if self._group == CHANGED:
            return self._is_changed(knob.key)
        return knob.group == self._group and (self._is_expert or not knob.is_expert or self._is_changed(knob.key))

    def _show_about(self) -> None:
        from tui_trainer.config.catalogue import catalogue

        field = self.query_one("#fields", FieldList).field
        knob = catalogue().get(field.key) if field else None
        text = "The section's presence turns LoRA on: a small adapter is trained, the weights stay frozen."
        if knob is not None:
            layer = self.session.draft.layer(knob.key).value
            text = f"{about(knob)}\n\nThis value: {layer}."
        elif field is None or field.key != LORA_KEY:
            text = ""
        self.query_one("#about").border_title = Content(field.key if field and field.key else "Help")
        self.query_one("#about-text", Static).update(Content(safe(text)))

    def _show_consequences(self) -> None:
        from tui_trainer.config.checks import check_config
        from tui_trainer.tui.consequences import consequences, lines

        config, dataset = self.session.draft.config, self.session.dataset.state
        reading = self.session.services.machine.reading
        result = consequences(config, dataset, reading)
        self.problems = check_config(config, result.facts)
        self.query_one(Pairs).show(list(lines(config, result, dataset, reading)))
        self._show_rate(result)
        self._show_problems()
        self._show_fields()

    def _show_rate(self, result: Consequences) -> None:
        note = f"{result.plan.max_steps} steps" if result.plan.max_steps else "1000 steps, for want of data"
        plot = Plot("learning rate", [Curve(result.rate)], note=note, from_zero=True, x_max=result.plan.max_steps)
        self.query_one("#rate", Chart).show(plot)

    def _show_problems(self) -> None:
        lines = [
            Content.assemble(
                (
                    "✘ " if problem.severity == "error" else "⚑ ",
                    "$error" if problem.severity == "error" else "$warning",
                ),
                (safe_line(f"{problem.key}: {problem.message}"), ""),
                (safe_line(f"; {problem.remedy}") if problem.remedy else "", "$text-muted"),
            )
            for problem in self.problems[:4]
        ]
        if len(self.problems) > len(lines):
            lines.append(
                Content.styled(f"  and {len(self.problems) - len(lines)} more (e steps through them)", "$text-muted")
            )
        pane = self.query_one("#problems", Static)
        pane.display = bool(lines)
        pane.update(Content("\n").join(lines))

    # Messages

    @on(CursorList.Highlighted, "#groups")
    def _group_highlighted(self) -> None:
        self._group = self.query_one(GroupList).name_under_cursor
        self._show_fields()

    @on(CursorList.Chosen, "#groups")
    def _group_chosen(self) -> None:
        self.query_one("#fields").focus()

    @on(CursorList.Highlighted, "#fields")
    def _field_highlighted(self) -> None:
        self._show_about()

    @on(Input.Changed, "#search")
    def _search_changed(self, event: Input.Changed) -> None:
        self._query = event.value.strip()
        self._show_fields()
        self.query_one("#fields", FieldList).move_cursor(0)

    @on(Input.Submitted, "#search")
    def _search_submitted(self) -> None:
        self.query_one("#fields").focus()

    # Keys

    def action_search(self) -> None:
        """Find a field."""
        search = self.query_one("#search")
        search.display = True
        search.focus()

    def action_leave_field(self) -> None:
        """Leave the search; from the fields go to the groups."""
        search = self.query_one("#search", Input)
        if search.display:
            search.value, self._query = "", ""
            search.display = False
            self._show_fields()
            self.query_one("#fields").focus()
        elif self.query_one("#fields").has_focus:
            self.query_one("#groups").focus()
        else:
            self.query_one("#fields").focus()

    def action_changed(self) -> None:
        """Show what differs from the defaults."""
        self.query_one(GroupList).go_to(CHANGED)
        self.query_one("#fields").focus()

    def action_expert(self) -> None:
        """Show or hide fields for experts."""
        self._is_expert = not self._is_expert
        self._show_fields()
        self.say("all fields are shown" if self._is_expert else "fields for experts are hidden")

    def action_edit_name(self) -> None:
        """Name the run."""
        self.edit_field("name")

    def action_problem(self) -> None:
        """Go to the field of the first problem, then the next."""
        if not self.problems:
            self.say("no problems")
            return
        keys = [problem.keys[0] if problem.keys else problem.key for problem in self.problems]
        current = self.query_one("#fields", FieldList).field
        at = keys.index(current.key) + 1 if current and current.key in keys else 0
        self._go_to(keys[at % len(keys)])

    def show_problem(self, problem: Problem) -> None:
        """Go to the field that mends a problem."""
        self._go_to(problem.keys[0] if problem.keys else problem.key)

    def _go_to(self, key: str) -> None:
        from tui_trainer.config.catalogue import catalogue

        group = catalogue()[key].group if key in catalogue() else "LoRA"
        self.query_one(GroupList).go_to(group)
        self._group, self._is_expert = group, self._is_expert or (key in catalogue() and catalogue()[key].is_expert)
        self._show_fields()
        fields = self.query_one("#fields", FieldList)
        fields.go_to(key)
        fields.focus()


def _distance(key: str, query: str) -> int:
    """How far a field is from what is looked for: it is its name, is in its name, or is only told of it."""
    return 0 if key == query or key.endswith(f".{query}") else 1 if query in key else 2
