"""Secrets kept out of files, logs and messages: recognised by their shape or by the name they are given to.

Used where a command line, an error or a setting is about to be written down. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MASK = "***"

_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[opsu]_[A-Za-z0-9]{16,}"
    r"|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{16,}|AKIA[A-Z0-9]{12,}|xox[abprs]-[A-Za-z0-9-]{10,})"
)
_SECRET_NAME = re.compile(
    r"(?:^|[._-])(?:token|password|passwd|secret|api[_-]?key|access[_-]key|credentials?|authorization)$", re.IGNORECASE
)
_TOKENIZER_NAME = re.compile(r"(?:^|[._-])(?:pad|eos|bos|unk|mask|sep|cls|stop|image|special)_token$", re.IGNORECASE)
# possessive and begun at a word's start only: the time stays proportional to the text, however long its words are
_ASSIGNMENT = re.compile(
    r"(?<![\w.-])(?P<name>[\w.-]++)(?P<sign>[\"']?\s?[=:]\s?(?:Bearer\s)?)(?P<value>[^\s,}\]\"']+|\"[^\"]*\"|'[^']*')"
)
_USER_OF_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)")


def is_secret_name(name: str) -> bool:
    """Whether what is called so is a secret: HF_TOKEN, model.token, WANDB_API_KEY; not pad_token or max_tokens."""
    return _SECRET_NAME.search(name) is not None and _TOKENIZER_NAME.search(name) is None


def holds_token(text: str) -> bool:
    """Whether a token of known shape stands in `text`, or an address with a user in front."""
    return _SHAPES.search(text) is not None or _USER_OF_ADDRESS.search(text) is not None


def redact(text: str) -> str:
    """`text` with every secret in it replaced by `MASK`.

    Masked are tokens of known shape (Hugging Face, OpenAI, GitHub, GitLab, AWS, Slack), values assigned to a secret's
    name, and the user part of an address.
    """
    text = _ASSIGNMENT.sub(_mask_assignment, _USER_OF_ADDRESS.sub(MASK, text))
    return _SHAPES.sub(MASK, text)


def redact_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line with its secrets masked, those that follow an option of their own (`--token X`) among them."""
    masked: list[str] = []
    is_value_of_secret = False
    for argument in arguments:
        masked.append(MASK if is_value_of_secret and not argument.startswith("-") else redact(argument))
        is_value_of_secret = argument.startswith("--") and is_secret_name(argument[2:])
    return masked


def _mask_assignment(match: re.Match[str]) -> str:
    return f"{match['name']}{match['sign']}{MASK}" if is_secret_name(match["name"]) else match[0]
