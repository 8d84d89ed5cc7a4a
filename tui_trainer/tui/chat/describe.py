"""A loaded model in a line: size, device, decoding, where its weights come from, whom it follows."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tui_trainer.text import shortened_front
from tui_trainer.tui import format as fmt
from tui_trainer.tui.feeds.chat import Slot

_RUN_STAMP = re.compile(r"-\d{8}-\d{6}-[0-9a-f]{4}")
_LONGEST_NAME = 28


def slot_note(slot: Slot) -> str:
    """What is known of a model, the most important first."""
    if slot.error:
        return slot.error
    if slot.task:
        return slot.task
    if not slot.reference and not slot.run:
        return "o chooses a model"
    words = list(_loaded_words(slot.about)) if slot.is_loaded else []
    if slot.run:
        words.insert(0, f"follows {slot.run}")
    if slot.saved_at:
        words.insert(1 if slot.run else 0, f"saved {fmt.duration(time.time() - slot.saved_at)} ago")
    if slot.follow_note:
        words.append(slot.follow_note)
    return " · ".join(words) or "loaded with the first question"


def _loaded_words(about: Mapping[str, Any]) -> Iterator[str]:
    if about.get("kind") == "server":
        yield f"server {about.get('dialect') or ''}".strip()
        untranslatable = about.get("untranslatable") or {}
        if untranslatable:
            yield f"cannot be told: {', '.join(map(str, untranslatable))}"
    elif isinstance(about.get("num_parameters"), int):
        yield f"{parameters(about['num_parameters'])} parameters"
    if about.get("step") is not None:
        yield f"step {fmt.count(about['step'])}"
    if device := f"{about.get('device') or ''} {about.get('dtype') or ''}".strip():
        yield device
    if about.get("shares_weights"):
        yield "shares A's weights"
    decode = about.get("decode") or {}
    if decode.get("kind") and decode.get("kind") != "server":
        yield f"decode {decode['kind']}"
    if about.get("context_length"):
        yield f"context {fmt.count(about['context_length'])}"
    if not about.get("has_template", True):
        yield "no chat template: plain completion"
    template = about.get("template")
    if isinstance(template, Mapping) and template.get("source") != "model":
        yield f"template {template.get('name')} ({template.get('source')})"
    if about.get("note"):
        yield str(about["note"])


def short_name(reference: str) -> str:
    """A reference where there is little room: a run without its date and number, the end of what is long."""
    return shortened_front(_RUN_STAMP.sub("", reference), _LONGEST_NAME)


def parameters(number: int) -> str:
    """A number of parameters as 135 M."""
    return f"{number / 1e6:.0f} M" if number >= 10**7 else fmt.count(number)
