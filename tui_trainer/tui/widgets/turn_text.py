"""What a turn of a conversation looks like: role and branch, coloured text, thinking, tool calls, figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from textual.content import Content

from tui_trainer.text import safe, safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.chat.colours import PLAIN, coloured, legend
from tui_trainer.tui.chat.describe import short_name
from tui_trainer.tui.chat.reply import Reply
from tui_trainer.tui.chat.tree import Turn

MOST_CHARACTERS = 20_000
"""More of a turn is not drawn; the view of its tokens has all of it."""
MOST_GROWING = 4_000
"""While a reply grows, only so much of its end is drawn, so that drawing costs the same however long it gets."""

_ROLE_STYLES = {"system": "$warning", "user": "$primary", "assistant": "$success"}


@dataclass(frozen=True)
class Looks:
    """How a turn is to be drawn.

    Attributes:
        mode: how tokens are coloured.
        is_unfolded: whether its thinking is shown.
        on_path: whether the conversation goes through it.
    """

    mode: str = PLAIN
    is_unfolded: bool = False
    on_path: bool = True


def turn_text(turn: Turn, looks: Looks) -> Content:
    """A turn with everything that is known of it."""
    lines = [_heading(turn, looks)]
    if turn.reply is None:
        lines.append(Content(_cut(turn.text)))
    else:
        lines += _reply_lines(turn.reply, looks)
    return Content("\n").join(lines)


def system_text(system: str | None) -> Content:
    """The system message as the first turn; nothing if there is none."""
    if not system:
        return Content("")
    return Content.assemble(("system\n", f"bold {_ROLE_STYLES['system']}"), (safe(system) + "\n", ""))


def hint_text(num_branches: int) -> Content:
    """That the conversation was cut here and can be gone on with."""
    if not num_branches:
        return Content("")
    branches = "a branch goes" if num_branches == 1 else f"{num_branches} branches go"
    return Content.styled(f"↳ {branches} on from here: down enters, b shows all\n", "$text-disabled")


def begin_text(ideas: Sequence[str]) -> Content:
    """How to begin, and with what."""
    said = "Nothing was said yet. Type below and press enter, or take one of these with down and up:\n"
    return Content.assemble((said, "$text-muted"), *((f"\n  · {safe_line(idea)}", "$text") for idea in ideas), "\n")


def legend_text(mode: str) -> Content:
    """What the looks of tokens mean."""
    parts: list[Content] = [Content.styled(f" {mode}: ", "$text-muted")]
    for band in legend(mode):
        parts += [Content.styled(band.label, band.style), Content("  ")]
    return Content.assemble(*parts)


def _heading(turn: Turn, looks: Looks) -> Content:
    number, many = turn.place
    reply = turn.reply
    dim = "$text-disabled"
    parts: list[tuple[str, str]] = [(turn.role, f"bold {_ROLE_STYLES.get(turn.role, '')}")]
    if reply is not None and len(turn.together) > 1:
        parts.insert(0, ("▸ " if looks.on_path else "  ", "bold $accent"))
    if many > 1:
        parts.append((f" ‹{number}/{many}›", "$accent"))
    if reply is not None and (reply.slot != "a" or any(t.reply and t.reply.slot != "a" for t in turn.together)):
        parts.append((f" {reply.slot.upper()} {safe_line(short_name(reply.model))}", dim))
    return Content.assemble(*parts)


def _reply_lines(reply: Reply, looks: Looks) -> Iterator[Content]:
    if reply.thinking is not None and looks.mode == PLAIN:
        yield from _thinking(reply.thinking, is_unfolded=looks.is_unfolded)
    yield _text(reply, looks.mode)
    for call in reply.tool_calls:
        arguments = json.dumps(call.get("arguments"), ensure_ascii=False)
        yield Content.assemble(
            ("⚒ ", "$secondary"), (safe_line(str(call.get("name"))), "bold"), (f" {safe_line(arguments)}", "")
        )
    if note := reply.note():
        yield Content.styled(safe_line(note), "$error" if reply.error else "$text-disabled")


def _thinking(thinking: str, *, is_unfolded: bool) -> Iterator[Content]:
    sign, key = ("▾", "folds") if is_unfolded else ("▸", "unfolds")
    size = f"{fmt.count(len(thinking))} characters"
    yield Content.styled(f"{sign} thinking, {size}; x {key}", "$text-disabled")
    if is_unfolded:
        yield Content.styled(_cut(thinking.strip("\n")), "$text-muted")


def _text(reply: Reply, mode: str) -> Content:
    cursor = "▏" if reply.is_streaming else ""
    if mode == PLAIN and not reply.different:
        text = reply.answer.lstrip("\n") if reply.thinking is not None else reply.text
        return Content(_tail(text) + cursor if reply.is_streaming else _cut(text))
    pieces: list[tuple[str, str]] = []
    used = 0
    for text, band in coloured(reply, mode):
        if used > MOST_CHARACTERS:
            pieces.append(("\n… t shows the rest", "$text-disabled"))
            break
        used += len(text)
        pieces.append((safe(text), band.style))
    return Content.assemble(*pieces, cursor)


def _cut(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return safe(text)
    return f"{safe(text[:MOST_CHARACTERS])}\n… {fmt.count(len(text) - MOST_CHARACTERS)} more characters"


def _tail(text: str) -> str:
    if len(text) <= MOST_GROWING:
        return safe(text)
    return f"… {fmt.count(len(text) - MOST_GROWING)} characters before\n{safe(text[-MOST_GROWING:])}"
