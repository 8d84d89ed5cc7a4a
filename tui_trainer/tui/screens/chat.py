"""Screen 4: talk to a model, with every sampling knob at hand."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static
from textual.worker import Worker

from tui_trainer.errors import CancelledError, WorkbenchError
from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.chat.targets import model_options, newest_model
from tui_trainer.tui.feeds.dataset import progress_text
from tui_trainer.tui.screens.base import WorkbenchScreen
from tui_trainer.tui.screens.editing import about
from tui_trainer.tui.widgets.ask import AskText, Pick
from tui_trainer.tui.widgets.field_list import FieldList
from tui_trainer.tui.widgets.knob_list import KnobList, parse
from tui_trainer.tui.widgets.transcript import Entry, Transcript

_REFRESH_SECONDS = 0.08
_TYPE_A_MODEL = "…"


class ChatScreen(WorkbenchScreen):
    """A transcript, a line to type in, the knobs."""

    CSS_PATH = "chat.tcss"
    mode = "chat"
    help_text = (
        "Chat: talk to a checkpoint, an adapter or any other model. Type and press enter; esc stops an answer, or "
        "leaves the line so that the keys below work. The knobs have vLLM's names; ◈ marks what the model itself "
        "asks for, ● what you set. Under each answer stands why it ended, its length and speed."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("i,slash", "type", "Type", key_display="i", id="chat-type", tooltip="To the line"),
        Binding("o", "model", "Model", id="chat-model", tooltip="Choose the model to talk to"),
        Binding("p", "knobs", "Knobs", id="chat-knobs", tooltip="To the sampling knobs"),
        Binding("r", "retry", "Retry", id="chat-retry", tooltip="Answer the last question again"),
        Binding("e", "edit", "Edit", id="chat-edit", tooltip="Edit the last question"),
        Binding("u", "undo", "Undo", id="chat-undo", tooltip="Take back the last question and its answer"),
        Binding("n", "new", "New", id="chat-new", tooltip="Begin a new conversation"),
        Binding("s", "system", "System", id="chat-system", tooltip="Set the system message"),
        Binding("z", "neutral", "Neutral", show=False, id="chat-neutral", tooltip="All knobs back to the model's own"),
        Binding("w", "raw", "Raw", show=False, id="chat-raw", tooltip="The last prompt as the model got it"),
        Binding("y", "copy", "Copy", show=False, id="chat-copy", tooltip="Copy the last answer"),
        Binding(
            "plus",
            "candidate(1)",
            "Candidate",
            show=False,
            id="chat-candidate",
            tooltip="Go on with another of the answers",
        ),
    ]

    def compose_body(self) -> Iterable[Widget]:
        """Model line, transcript and input at the left, knobs at the right."""
        with Horizontal(id="body"):
            with Vertical(id="talk"):
                yield Static("", id="model", markup=False)
                yield Transcript(id="transcript")
                yield Input(placeholder="say something; enter sends, esc leaves", id="line", compact=True)
            knobs = KnobList(id="knobs")
            knobs.border_title = "Knobs"
            yield knobs

    def on_mount(self) -> None:
        """Choose a model to begin with; it is loaded when the first question is asked."""
        self._model = ""
        self._loaded: dict[str, Any] = {}
        self._system: str | None = None
        self._answering: Worker[None] | None = None
        self._last: dict[str, Any] = {}
        super().on_mount()
        sampling = self.session.draft.config.sampling.model_dump(exclude_unset=True)
        self.query_one(KnobList).set_defaults(sampling, "preset")
        self._choose_model(self._first_model())
        self.query_one("#line").focus()

    def main_pane(self) -> Widget:
        """The transcript."""
        return self.query_one("#transcript")

    def _first_model(self) -> str:
        layout = self.session.run.layout
        newest = newest_model(layout) if layout is not None else None
        return newest or self.session.draft.config.model.name_or_path or ""

    # The model

    def _choose_model(self, reference: str) -> None:
        self._model, self._loaded = reference, {}
        self._show_model("loaded with the first question" if reference else "o chooses a model")

    def _show_model(self, note: str) -> None:
        parts = [(f" {safe_line(self._model) or 'no model'} ", "bold $primary"), (f" {safe_line(note)}", "$text-muted")]
        self.query_one("#model", Static).update(Content.assemble(*parts))

    def action_model(self) -> None:
        """Pick a model."""
        options = [(_TYPE_A_MODEL, "type a hub id, folder, GGUF file or run …", "")]
        options += model_options(self.session.root, self.session.draft.config.model.name_or_path)
        self.app.push_screen(Pick("Talk to", options, self._model), self._model_picked)

    def _model_picked(self, reference: str | None) -> None:
        if reference == _TYPE_A_MODEL:
            text = "A hub id, a folder, a .gguf file, RUN, RUN@STEP, RUN@best, or demo:smollm2."
            self.app.push_screen(AskText("Talk to", self._model, text), self._model_picked)
        elif reference:
            self._choose_model(reference.strip())
            self._load()

    @work(group="load", exclusive=True, exit_on_error=False)
    async def _load(self) -> None:
        await self._ensure_loaded()

    async def _ensure_loaded(self) -> bool:
        """Load the chosen model if it is not there yet; whether it is there now."""
        if self._loaded:
            return True
        if not self._model:
            self.say("choose a model first: esc, then o")
            return False
        reference = self._model
        self._show_model("loading …")
        try:
            loaded = await self.session.services.chat.call(
                "load", {"model": reference}, lambda item: self._show_model(f"{progress_text(item)} …")
            )
        except WorkbenchError as error:
            self._show_model(str(error))
            await self.query_one(Transcript).add(Entry("error", [str(error)]))
            return False
        if reference == self._model:
            self._loaded = loaded
            self._show_model(loaded_note(loaded))
            self.query_one(KnobList).set_defaults(loaded.get("defaults") or {}, "model")
        return bool(self._loaded)

    # The knobs

    @on(FieldList.EditRequested)
    def _edit_knob(self, message: FieldList.EditRequested) -> None:
        message.stop()
        knobs = self.query_one(KnobList)
        knob = knobs.knob(message.key)

        def take(typed: str | None) -> None:
            if typed is not None:
                knobs.set_text(knob.name, typed)

        self.app.push_screen(AskText(knob.name, message.text, about(knob), lambda typed: parse(knob, typed)), take)

    def params(self) -> dict[str, Any]:
        """The knobs that go with the next question."""
        return self.query_one(KnobList).params()

    def action_knobs(self) -> None:
        """To the knobs; on a narrow screen they lie over the transcript."""
        self.add_class("-knobs")
        self.query_one("#knobs").focus()

    def action_neutral(self) -> None:
        """Give all knobs back."""
        self.query_one(KnobList).neutralise()
        self.say("all knobs are the model's own")

    # The conversation

    @on(Input.Submitted, "#line")
    def _said(self, event: Input.Submitted) -> None:
        text = event.value
        if not text.strip() or self._answering is not None:
            return
        event.input.value = ""
        self._answering = self._answer(text)

    @work(group="answer", exit_on_error=False)
    async def _answer(self, question: str | None) -> None:
        """Ask, and show the answer as it comes. Without a question the last one is answered again."""
        try:
            if not await self._ensure_loaded():
                return
            transcript = self.query_one(Transcript)
            if question is not None:
                await transcript.add(Entry("user", [question]))
            await self._stream(transcript)
        finally:
            self._answering = None

    async def _stream(self, transcript: Transcript) -> None:
        request = self._request(transcript.entries)
        entry = Entry("assistant", is_streaming=True)
        await transcript.add(entry)
        drawn = 0.0

        def take(item: Any) -> None:
            nonlocal drawn
            at = int(item.get("candidate") or 0)
            while len(entry.candidates) <= at:
                entry.candidates.append("")
            entry.candidates[at] += str(item.get("text") or "")
            if time.monotonic() - drawn >= _REFRESH_SECONDS:
                drawn = time.monotonic()
                transcript.refresh_last()

        try:
            answer = await self.session.services.chat.call("generate", request, take)
        except CancelledError:
            entry.note = "stopped"
        except WorkbenchError as error:
            entry.note = str(error)
            self.say(str(error), problem=True)
        else:
            self._last = answer
            finish(entry, answer, request["params"])
            self.query_one(KnobList).set_ignored(answer.get("ignored_knobs") or ())
        entry.is_streaming = False
        transcript.refresh_last()

    def _request(self, entries: Iterable[Entry]) -> dict[str, Any]:
        turns = [
            {"role": entry.role, "content": entry.text} for entry in entries if entry.role in ("user", "assistant")
        ]
        params = self.params()
        if not self._loaded.get("has_template", True):
            return {"prompt": turns[-1]["content"], "params": params}
        system = [{"role": "system", "content": self._system}] if self._system else []
        return {"messages": [*system, *turns], "params": params}

    def action_leave_field(self) -> None:
        """Stop the answer that comes, else leave the line."""
        if self._answering is not None:
            self.workers.cancel_group(self, "answer")
            self._answering = None
            self._end_streaming()
            return
        self.remove_class("-knobs")
        super().action_leave_field()

    def _end_streaming(self) -> None:
        transcript = self.query_one(Transcript)
        if transcript.entries and transcript.entries[-1].is_streaming:
            transcript.entries[-1].is_streaming = False
            transcript.entries[-1].note = "stopped by you"
            transcript.refresh_last()

    def action_type(self) -> None:
        """To the line."""
        self.query_one("#line").focus()

    async def action_retry(self) -> None:
        """Answer the last question again."""
        entries = self.query_one(Transcript).entries
        while entries and entries[-1].role != "user":
            entries.pop()
        if entries and self._answering is None:
            await self.query_one(Transcript).show(entries)
            self._answering = self._answer(None)

    async def action_edit(self) -> None:
        """Take the last question back into the line."""
        question = await self._take_back()
        if question is not None:
            line = self.query_one("#line", Input)
            line.value = question
            line.focus()

    async def action_undo(self) -> None:
        """Take back the last question and its answer."""
        if await self._take_back() is None:
            self.say("nothing to take back")

    async def _take_back(self) -> str | None:
        transcript = self.query_one(Transcript)
        entries = transcript.entries
        while entries and entries[-1].role != "user":
            entries.pop()
        question = entries.pop().text if entries else None
        await transcript.show(entries)
        return question

    async def action_new(self) -> None:
        """Begin anew."""
        await self.query_one(Transcript).show([])
        self.query_one("#line").focus()

    def action_system(self) -> None:
        """Set the system message."""
        text = "Told to the model before everything else. Empty: the template's own, if it has one."
        self.app.push_screen(AskText("System message", self._system or "", text), self._system_typed)

    def _system_typed(self, text: str | None) -> None:
        if text is not None:
            self._system = text or None
            self.say("the system message is set" if text else "no system message")

    def action_raw(self) -> None:
        """Show the last prompt as the model got it."""
        from tui_trainer.tui.screens.text import TextScreen

        if not self._last:
            self.say("ask something first")
            return
        ids = self._last.get("prompt_ids") or []
        rendered = self._last.get("rendered") or self._last.get("prompt", "")
        text = f"{rendered}\n\n{len(ids)} tokens: {' '.join(map(str, ids))}"
        self.app.push_screen(TextScreen("The prompt as the model got it", text))

    def action_candidate(self, step: int) -> None:
        """Go on with another candidate."""
        transcript = self.query_one(Transcript)
        if transcript.entries:
            entry = transcript.entries[-1]
            entry.chosen = (entry.chosen + step) % len(entry.candidates)
            transcript.refresh_last()

    def action_copy(self) -> None:
        """Copy the last answer."""
        entries = self.query_one(Transcript).entries
        if entries:
            self.app.copy_to_clipboard(entries[-1].text)
            self.say("copied")


def loaded_note(loaded: dict[str, Any]) -> str:
    """What was loaded, in one line."""
    parameters = loaded.get("num_parameters")
    words = [
        f"{parameters / 1e6:.0f} M parameters"
        if isinstance(parameters, int) and parameters >= 10**7
        else f"{fmt.count(parameters or 0)} parameters",
        f"{loaded.get('device', '')} {loaded.get('dtype', '')}".strip(),
        f"context {fmt.count(loaded['context_length'])}" if loaded.get("context_length") else "",
        "" if loaded.get("has_template", True) else "no chat template: plain completion",
        str(loaded.get("note") or ""),
    ]
    return " · ".join(word for word in words if word)


def finish(entry: Entry, answer: dict[str, Any], params: dict[str, Any]) -> None:
    """Put the final texts into an entry, and how they came about."""
    candidates = answer.get("candidates") or []
    if candidates:
        entry.candidates = [str(candidate.get("text") or "") for candidate in candidates]
    reasons = ", ".join(dict.fromkeys(str(candidate.get("finish_reason")) for candidate in candidates))
    usage = answer.get("usage") or {}
    most = params.get("max_tokens")
    length = f"{usage.get('completion_tokens', 0)}{f'/{most}' if most else ''} tokens"
    words = [reasons, length]
    if speed := answer.get("tokens_per_second"):
        words.append(f"{speed:.1f} tok/s")
    if (first := answer.get("seconds_to_first_token")) is not None:
        words.append(f"first token {first:.2f} s")
    if ignored := answer.get("ignored_knobs"):
        words.append(f"ignored: {', '.join(map(str, ignored))}")
    entry.note = " · ".join(words)
