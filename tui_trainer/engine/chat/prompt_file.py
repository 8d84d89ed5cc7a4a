"""Sets of prompts: one question a line, or JSON lines that say more; loads nothing heavy, for the command line.

A JSON line has "prompt" or "messages", and may have "name", "exact" (the answer it should be), "regex" (what has to be
found in it) and "reply" (a text to be judged instead of an answer).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_trainer.errors import DataError

_LONGEST_NAME = 60


@dataclass(frozen=True)
class Item:
    """One prompt of a set.

    Attributes:
        asked: a question, or the conversation that ends with it.
        name: what tables call it.
        exact: the answer it should be, spaces around it aside; None if nobody says.
        regex: what has to be found in the answer; None if nobody says.
        reply: a text to be judged instead of an answer; None if there is none.
    """

    asked: str | list[dict[str, Any]]
    name: str = ""
    exact: str | None = None
    regex: str | None = None
    reply: str | None = None

    @classmethod
    def of(cls, value: Any, where: str) -> Item:
        """An item from a JSON value: a text, a list of messages, or an object.

        Raises:
            DataError: it asks nothing, or a part of it is of the wrong kind.
        """
        fields: Mapping[str, Any] = value if isinstance(value, Mapping) else {"prompt": value}
        asked = fields.get("prompt", fields.get("messages"))
        is_chat = isinstance(asked, list) and asked and all(isinstance(message, dict) for message in asked)
        if not is_chat and not (isinstance(asked, str) and asked):
            raise DataError('asks nothing: it has neither "prompt" nor "messages"', where=where)
        texts: dict[str, str] = {}
        for key in ("name", "exact", "regex", "reply"):
            if fields.get(key) is not None:
                if not isinstance(fields[key], str):
                    raise DataError(f'"{key}" is no text', where=where)
                texts[key] = fields[key]
        try:
            re.compile(texts.get("regex", ""))
        except re.error as error:
            raise DataError(f'"regex" is no regular expression: {error}', where=where) from None
        said = asked if isinstance(asked, str) else str(asked[-1].get("content") or "")
        return cls(asked, **{"name": said[:_LONGEST_NAME], **texts})

    def messages(self, system: str | None = None) -> list[dict[str, Any]]:
        """The conversation, begun with a system message if there is one and it has none of its own."""
        messages = [{"role": "user", "content": self.asked}] if isinstance(self.asked, str) else list(self.asked)
        if system and not any(message.get("role") == "system" for message in messages):
            messages.insert(0, {"role": "system", "content": system})
        return messages

    def to_dict(self) -> dict[str, Any]:
        """The item as a JSON object; `of` is the inverse."""
        key = "prompt" if isinstance(self.asked, str) else "messages"
        fields = {"name": self.name, "exact": self.exact, "regex": self.regex, "reply": self.reply}
        return {key: self.asked, **{name: value for name, value in fields.items() if value is not None}}


def read_prompts(path: Path) -> list[Item]:
    """The prompts in a file: each line of a text, each JSON value of a .jsonl.

    Raises:
        DataError: the file cannot be read or holds none, or a line of it is no prompt; the message names the line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (byte {error.start})", where=str(path)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from None
    items = list(_items(text, path))
    if not items:
        raise DataError("holds no question", where=str(path), remedy="Write one question a line.")
    return items


def _items(text: str, path: Path) -> Iterator[Item]:
    is_json = path.suffix.lower() in (".jsonl", ".json")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            where = f"{path}:{number}"
            yield Item.of(_parsed(line, where), where) if is_json else Item.of(line, where)


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not valid JSON: {error}", where=where, remedy="Each line has to be an object.") from None
