"""Secrets kept out of a configuration, which is written into every run's directory. No message repeats one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tui_trainer.config.catalogue import catalogue
from tui_trainer.config.rules.facts import Facts, error
from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import Problem
from tui_trainer.redact import MASK, holds_token, is_secret_name

_SECRET_WORDS = frozenset(
    {"AUTH", "CREDENTIAL", "CREDENTIALS", "KEY", "APIKEY", "PASSWD", "PASSWORD", "PASSPHRASE", "PWD", "SECRET", "TOKEN"}
)
_MORE_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bAIza[A-Za-z0-9_-]{30,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\."
)
_ASSIGNED = re.compile(
    r"(?i)(?:token|key|secret|password|passwd|credentials?)[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9+/_.-]{16,}"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def variables(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Variables whose name says that they hold a secret."""
    for name in config.launch.env:
        if _is_secret_variable(name) and not _is_credential(name):
            yield error(
                "launch.env",
                f"{name} looks like a secret, and a configuration is written into files",
                f"remove it here and `export {name}=…` before starting; the run inherits it",
            )


def _is_secret_variable(name: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(name.upper().split("_"))


def values(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Values anywhere that look like a credential, and settings named like one."""
    for key, name, value in _texts(config.model_dump(), ""):
        if name == "token_env":
            if not _VARIABLE.fullmatch(value) or _is_credential(value):
                yield error(
                    key,
                    "must be the name of a variable, not what it holds",
                    'set it to "HF_TOKEN" and export that variable',
                )
        elif key.startswith("launch.env.") and _is_secret_variable(name):
            continue  # said already
        elif _is_credential(value):
            yield _found(key, "holds what looks like a token or key")
        elif value and is_secret_name(name):
            yield _found(key, "is named like a secret")


def _found(key: str, what: str) -> Problem:
    setting = next(knob for knob in catalogue() if key == knob or key.startswith(f"{knob}.") or _is_source(key, knob))
    remedy = "remove it; export it as a variable, or use `hf auth login`"
    return Problem(key, f"{what}, and a configuration is written into files", remedy, keys=(setting,))


def _is_source(key: str, knob: str) -> bool:
    return knob.startswith("data.sources.") and re.sub(r"\.\d+\.", ".", key, count=1).startswith(knob)


def _is_credential(text: str) -> bool:
    return holds_token(text) or any(shape.search(text) for shape in (_MORE_SHAPES, _ASSIGNED))


def _texts(value: Any, key: str, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Every text, names in tables among them, with the dotted key that leads to it and the last name on the way."""
    if isinstance(value, str):
        yield key, name, value
    elif isinstance(value, Mapping):
        for inner, each in value.items():
            shown = MASK if _is_credential(inner) else inner
            path = f"{key}.{shown}" if key else shown
            if shown is MASK:
                yield path, "", inner
            yield from _texts(each, path, shown)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _texts(each, f"{key}.{number}" if isinstance(each, Mapping) else key, name)


RULES = (variables, values)
