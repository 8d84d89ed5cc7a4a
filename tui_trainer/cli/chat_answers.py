"""Answers on the terminal: shown as they come, stopped by ctrl+c, with a line on how they came about."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from tui_trainer.cli.output import print_text, talk
from tui_trainer.text import safe, safe_line

if TYPE_CHECKING:
    from tui_trainer.engine.chat.question import Question
    from tui_trainer.engine.chat.session import ChatSession


def introduce(session: ChatSession) -> None:
    """Say what was loaded."""
    about = session.describe()
    words = [
        f"{about['num_parameters'] / 1e6:.1f} M parameters on {about['device']} in {about['dtype']} ({about['note']})",
        "" if about["has_template"] else "no chat template: the model goes on with the text",
    ]
    talk().print(safe_line(f"{session.name}: " + "; ".join(filter(None, words))), style="dim")


def ask(session: ChatSession, question: Question, interrupted: list[int], *, show: bool = True) -> dict[str, Any]:
    """Answer a question; the answer is shown as it comes if there is one, else at its end.

    Once `interrupted` holds something the answer stops; it then has the finish reason "cancelled".
    """
    answer = session.answer(question, lambda: bool(interrupted))
    is_live = show and session.num_rows(question) == 1
    while True:
        try:
            item = next(answer)
        except StopIteration as end:
            document: dict[str, Any] = end.value
            break
        if is_live:
            sys.stdout.write(safe(item["text"]) if sys.stdout.isatty() else item["text"])
            sys.stdout.flush()
    if is_live:
        sys.stdout.write("\n")
    elif show:
        for number, candidate in enumerate(document["candidates"], start=1):
            talk().print(
                f"[{number}] {candidate['finish_reason']}, log-probability {candidate['cumulative_logprob']:.2f}"
            )
            print_text(candidate["text"])
    if show:
        talk().print(safe_line(_summary(document)), style="dim")
    return document


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """While inside, the first SIGINT is only noted in the list; the second interrupts as usual."""
    noted: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        noted.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _summary(document: Mapping[str, Any]) -> str:
    """Why the answer ended, how long it is, how fast it came, which knobs had no effect."""
    reasons = ", ".join(dict.fromkeys(candidate["finish_reason"] for candidate in document["candidates"]))
    most = document["knobs"]["max_tokens"]["value"]
    words = [reasons, f"{document['usage']['completion_tokens']}{f'/{most}' if most else ''} tokens"]
    if document["tokens_per_second"]:
        words.append(f"{document['tokens_per_second']:.1f} tokens/s")
    if document["seconds_to_first_token"]:
        words.append(f"first after {document['seconds_to_first_token']:.2f} s")
    words += [f"{name} has no effect: {reason}" for name, reason in document["ignored_reasons"].items()]
    return " · ".join([*words, *document["notes"]])
