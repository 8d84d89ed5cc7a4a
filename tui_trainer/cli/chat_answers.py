"""Answers on the terminal: shown as they come, two models one below the other, with a line on how they came about."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from tui_trainer.cli.chat_local import LocalModels
from tui_trainer.cli.output import print_text, talk
from tui_trainer.text import safe, safe_line
from tui_trainer.tui.chat.asking import Growing
from tui_trainer.tui.chat.colours import PLAIN, coloured, legend
from tui_trainer.tui.chat.describe import slot_note
from tui_trainer.tui.chat.reply import Opening, Reply
from tui_trainer.tui.chat.tree import Conversation, Turn
from tui_trainer.wire.server import Cancellation

_COLOURS = {
    "$foreground": "default",
    "$text-disabled": "bright_black",
    "$success": "green",
    "$warning": "yellow",
    "$error": "red",
    "$accent": "cyan",
}
"""The colours of the theme as a terminal names them."""


def introduce(models: LocalModels) -> None:
    """Say what was loaded."""
    for name, slot in models.slots.items():
        sign = f"{name.upper()} " if models.has_other else ""
        talk().print(safe_line(f"{sign}{slot.reference}: {slot_note(slot)}"), style="dim")


def ask(
    models: LocalModels,
    conversation: Conversation,
    question: Turn,
    opening: Opening,
    request: Mapping[str, Any],
    cancellation: Cancellation,
    *,
    slots: Sequence[str],
    show: bool = True,
) -> dict[str, Any]:
    """Let one or both models answer; the replies hang in the conversation afterwards.

    A single answer is shown as it comes, several at their end. Once cancelled it stops where it is.

    Returns:
        The worker's document: of `generate` for one model, of `compare` for two.

    Raises:
        WorkbenchError: it cannot be answered.
    """
    names = {slot: models.slots[slot].reference for slot in slots}
    growing = Growing(conversation, question, opening, names, lambda: None)
    is_live = show and len(slots) == 1 and _num_rows(models, request) == 1
    if is_live and opening.text:
        _write(opening.text)

    def take(item: Mapping[str, Any]) -> None:
        if "id" in item:
            growing.take(item)
            if is_live:
                _write(str(item.get("text") or ""))

    method = "compare" if len(slots) > 1 else "generate"
    document: dict[str, Any] = models.call(method, {**request, "slot": slots[0]}, take, cancellation)
    documents = {slot: document[slot] for slot in slots} if len(slots) > 1 else {slots[0]: document}
    growing.finish(documents)
    growing.mark_differences(document.get("diff") or ())
    if is_live:
        _write("\n")
    for slot in slots if show else ():
        replies = [reply for reply in growing.replies if reply.slot == slot]
        letter = slot.upper() if len(slots) > 1 else ""
        for number, (reply, candidate) in enumerate(zip(replies, documents[slot]["candidates"], strict=False), 1):
            if not is_live:
                _show_whole(reply, candidate, f"[{letter}{number}]")
            _show_end(reply)
    return document


def _write(text: str) -> None:
    sys.stdout.write(safe(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _num_rows(models: LocalModels, request: Mapping[str, Any]) -> int:
    """How many answers are computed at once; one alone can be shown as it comes."""
    knobs = models.call("knobs", {"params": request.get("params") or {}})["knobs"]
    if knobs["use_beam_search"]["value"]:
        return int(knobs["beam_width"]["value"])
    return int(knobs["best_of"]["value"] or knobs["n"]["value"])


def _show_whole(reply: Reply, candidate: Mapping[str, Any], sign: str) -> None:
    """A reply that was not shown as it came; where it differs from the other model's, that is marked."""
    logprob = candidate.get("cumulative_logprob")
    words = [sign, reply.model, f"log-probability {logprob:.2f}" if isinstance(logprob, float) else ""]
    talk().print(safe_line(" ".join(filter(None, words))))
    if sys.stdout.isatty() and reply.different:
        talk().print(coloured_text(reply, PLAIN))
    else:
        print_text(reply.text)


def _show_end(reply: Reply) -> None:
    """The tools it calls, and how it came about."""
    for call in reply.tool_calls:
        talk().print(safe_line(f"calls {call.get('name')} {call.get('arguments')}"), style="cyan")
    talk().print(safe_line(reply.note()), style="dim")


def coloured_text(reply: Reply, mode: str) -> Text:
    """A reply with its tokens in the looks of a mode."""
    text = Text()
    for piece, band in coloured(reply, mode):
        text.append(safe(piece), style=terminal_style(band.style))
    return text


def legend_line(mode: str) -> Text:
    """What the looks mean."""
    text = Text(f"{mode}: ", style="dim")
    for band in legend(mode):
        text.append(band.label, style=terminal_style(band.style)).append("  ")
    return text


def terminal_style(style: str) -> str:
    """A style of the screen as the terminal's."""
    return " ".join(_COLOURS.get(word, word) for word in style.split())
