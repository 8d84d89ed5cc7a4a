"""The names of things: which roles a format has, which columns are taken for them, who speaks in a conversation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FormatRoles:
    """The roles of a format: `data.columns` maps them to columns.

    Attributes:
        required: every row has to have these.
        optional: used where a row has them.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


FORMATS: dict[str, FormatRoles] = {
    "messages": FormatRoles(("messages",), ("system", "tools")),
    "sharegpt": FormatRoles(("conversations",), ("system", "tools")),
    "alpaca": FormatRoles(("instruction", "output"), ("input", "system", "history")),
    "prompt_completion": FormatRoles(("prompt", "completion"), ("system", "tools")),
    "text": FormatRoles(("text",)),
    "tokenized": FormatRoles(("input_ids",), ("labels", "attention_mask")),
    "preference": FormatRoles(("chosen", "rejected"), ("prompt", "system", "tools")),
    "kto": FormatRoles(("label",), ("messages", "prompt", "completion", "system", "tools")),
}
"""Every format a row can have, by its name in the configuration."""

WITHOUT_TURNS = frozenset({"text", "tokenized"})
"""The formats whose rows hold no conversation, so that no chat template has a part in them."""

PAIRS: tuple[tuple[str, str], ...] = (
    ("prompt", "completion"),
    ("input", "output"),
    ("question", "answer"),
    ("prompt", "response"),
    ("instruction", "response"),
    ("instruction", "completion"),
    ("instruction", "answer"),
    ("query", "response"),
    ("query", "answer"),
    ("question", "response"),
    ("question", "solution"),
    ("problem", "solution"),
    ("problem", "answer"),
    ("prompt", "answer"),
    ("prompt", "output"),
    ("input", "response"),
    ("input", "target"),
    ("inputs", "targets"),
    ("source", "target"),
    ("user", "assistant"),
    ("human", "assistant"),
    ("q", "a"),
)
"""Columns taken for prompt and completion, the likelier first."""

NAMELESS_PAIR = ("column_0", "column_1")
"""What the readers call the columns of a file that has two and names neither."""

CONVERSATION_COLUMNS = ("messages", "conversations", "conversation", "chat", "dialogue", "dialog", "turns", "history")
TEXT_COLUMNS = ("text", "content", "document", "body", "passage", "story", "code")
SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
TOOLS_COLUMNS = ("tools", "functions")

ROLE_ALIASES: dict[str, str] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "customer": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "function_call": "function_call",
    "tool_call": "function_call",
}
"""Who speaks, as datasets write it in lower case, and what templates call it; function_call becomes a tool call."""

_KNOWN_COLUMNS = {
    *(name for pair in PAIRS for name in pair),
    *CONVERSATION_COLUMNS,
    *TEXT_COLUMNS,
    *SYSTEM_COLUMNS,
    *TOOLS_COLUMNS,
    "chosen",
    "rejected",
    "label",
    "id",
}


def is_known_column(name: str) -> bool:
    """Whether a column of that name has a meaning to us; tells a header from a first row."""
    return name.lower() in _KNOWN_COLUMNS
