"""Which format the rows of a dataset have, told from their first rows, and how sure that is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tui_trainer.engine.data.formats.paths import ABSENT, look_up
from tui_trainer.engine.data.formats.roles import (
    CONVERSATION_COLUMNS,
    FORMATS,
    NAMELESS_PAIR,
    PAIRS,
    SYSTEM_COLUMNS,
    TEXT_COLUMNS,
    TOOLS_COLUMNS,
)
from tui_trainer.engine.data.rows import BadRow, Row
from tui_trainer.errors import ConfigurationError, DataError, Problem

SAMPLE_ROWS = 64
"""Rows that are looked at."""

_PAIR_COLUMNS = frozenset(name for pair in PAIRS for name in pair)
"""Columns that hold one side of a conversation, also where that is a list of messages."""


@dataclass(frozen=True)
class FormatSpec:
    """What a row holds and where.

    Attributes:
        format: name of the format, "unknown" if none fits.
        columns: role to dotted column.
        confidence: from 0 to 1; 1 where the user said so.
        reason: why it is taken for that, one phrase.
        number_columns: columns that hold numbers in the first rows, so that numbers in them are meant.
    """

    format: str
    columns: Mapping[str, str] = field(default_factory=dict)
    confidence: float = 0.0
    reason: str = ""
    number_columns: frozenset[str] = frozenset()


def resolve_format(
    rows: Sequence[Row | BadRow], wanted: str, columns: Mapping[str, str], stage: str, where: str
) -> FormatSpec:
    """The format of a dataset: what the user said, completed by what the rows show.

    Args:
        rows: the first rows.
        wanted: `data.format`.
        columns: `data.columns`, role to dotted column.
        stage: the stage of the run; where rows fit several formats, pretraining prefers text.
        where: what messages call the dataset.

    Raises:
        ConfigurationError: a role does not belong to the format, or a column is in none of the rows.
        DataError: `wanted` names a format whose columns cannot be found.
    """
    whole = [row for row in rows[:SAMPLE_ROWS] if isinstance(row, dict)]
    name = wanted if wanted != "auto" else _format_of_roles(columns)
    spec = _detect(whole, stage) if name == "auto" else _complete(name, whole, columns, where)
    _check_columns(spec, whole, columns, where)
    return FormatSpec(spec.format, spec.columns, spec.confidence, spec.reason, _number_columns(spec, whole))


def _format_of_roles(columns: Mapping[str, str]) -> str:
    """The format whose roles the user named."""
    if not columns:
        return "auto"
    for name, roles in FORMATS.items():
        if set(roles.required) <= set(columns) <= {*roles.required, *roles.optional}:
            return name
    fitting = [name for name, roles in FORMATS.items() if set(columns) & set(roles.required)]
    known = ", ".join(dict.fromkeys(role for roles in FORMATS.values() for role in (*roles.required, *roles.optional)))
    missing = [role for role in FORMATS[fitting[0]].required if role not in columns] if fitting else []
    message = f"does not say which column is the {missing[0]}" if missing else "names roles that no format has together"
    raise ConfigurationError.of([Problem("data.columns", message, f"the roles are {known}")])


def _complete(name: str, rows: Sequence[Row], columns: Mapping[str, str], where: str) -> FormatSpec:
    """The columns of a format the user chose: his own mapping first, then the usual names."""
    roles = FORMATS[name]
    unknown = [role for role in columns if role not in (*roles.required, *roles.optional)]
    if unknown:
        known = ", ".join((*roles.required, *roles.optional))
        raise ConfigurationError.of(
            [
                Problem(f"data.columns.{role}", f"is no role of the format {name}", f"its roles are {known}")
                for role in unknown
            ]
        )
    found = _DETECTORS[name](rows)
    mapped = {**(found.columns if found else {}), **columns}
    missing = [role for role in roles.required if role not in mapped]
    if name == "kto" and "messages" not in mapped and not {"prompt", "completion"} <= set(mapped):
        missing.append("messages")
    if missing:
        names = ", ".join(_column_names(rows)[:12]) or "none"
        raise DataError(
            f"no column is taken for the {missing[0]} of the format {name}; the columns are {names}",
            where=where,
            remedy=f'Say which it is: data.columns = {{ {missing[0]} = "…" }}.',
        )
    return FormatSpec(name, mapped, 1.0, "set in the configuration")


def _check_columns(spec: FormatSpec, rows: Sequence[Row], columns: Mapping[str, str], where: str) -> None:
    """A column the user named has to occur in some row."""
    problems = [
        Problem(f"data.columns.{role}", f"no row of {where} has a column {path!r}", _columns_remedy(rows))
        for role, path in columns.items()
        if rows and spec.columns.get(role) == path and all(look_up(row, path) is ABSENT for row in rows)
    ]
    if problems:
        raise ConfigurationError.of(problems)


def _columns_remedy(rows: Sequence[Row]) -> str:
    return f"the columns are {', '.join(_column_names(rows)[:12])}"


def _column_names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _number_columns(spec: FormatSpec, rows: Sequence[Row]) -> frozenset[str]:
    """Columns of which most values are numbers."""
    numbers = []
    for path in spec.columns.values():
        values = [look_up(row, path) for row in rows]
        count = sum(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        if count > len(values) / 2:
            numbers.append(path)
    return frozenset(numbers)


def _detect(rows: Sequence[Row], stage: str) -> FormatSpec:
    if not rows:
        return FormatSpec("unknown", reason="there is no whole row")
    order = ["tokenized", "preference", "kto", "messages", "sharegpt", "alpaca", "prompt_completion", "text"]
    if stage == "pretrain":
        order.insert(0, order.pop())
    for name in order:
        spec = _DETECTORS[name](rows)
        if spec is not None:
            return spec
    return FormatSpec("unknown", reason=f"no known format has the columns {', '.join(_column_names(rows)[:12])}")


def _tokenized(rows: Sequence[Row]) -> FormatSpec | None:
    share = _share(rows, "input_ids", _is_ids)
    if not share:
        return None
    columns = {role: role for role in ("input_ids", "labels", "attention_mask") if _share(rows, role, _is_list)}
    return FormatSpec("tokenized", columns, share, "input_ids are lists of numbers")


def _preference(rows: Sequence[Row]) -> FormatSpec | None:
    share = min(_share(rows, "chosen", _is_answer), _share(rows, "rejected", _is_answer))
    if not share:
        return None
    prompts = ("prompt", "question", "instruction", *CONVERSATION_COLUMNS, "input")
    columns = {"chosen": "chosen", "rejected": "rejected", **_first_of(rows, "prompt", prompts), **_extras(rows)}
    return FormatSpec("preference", columns, share, "chosen and rejected answers")


def _kto(rows: Sequence[Row]) -> FormatSpec | None:
    label = next(
        (name for name in ("label", "kto_tag") if _share(rows, name, lambda value: isinstance(value, bool))), ""
    )
    if not label:
        return None
    inner = _messages(rows) or _sharegpt(rows)
    if inner:
        columns = {"messages": inner.columns.get("messages") or inner.columns["conversations"]}
    elif pair := _prompt_completion(rows):
        columns = dict(pair.columns)
    else:
        return None
    share = _share(rows, label, lambda value: isinstance(value, bool))
    return FormatSpec("kto", {**columns, "label": label, **_extras(rows)}, share, "answers with a label true or false")


def _messages(rows: Sequence[Row]) -> FormatSpec | None:
    return _conversation(rows, "messages", "messages", "role", "lists of messages with a role")


def _sharegpt(rows: Sequence[Row]) -> FormatSpec | None:
    return _conversation(rows, "sharegpt", "conversations", "from", "lists of turns with from and value")


def _conversation(rows: Sequence[Row], name: str, role: str, key: str, reason: str) -> FormatSpec | None:
    columns = _column_names(rows)
    usual = [column for column in CONVERSATION_COLUMNS if column in columns]
    others = [column for column in columns if column not in usual and column not in _PAIR_COLUMNS]
    for column in (*usual, *others):
        share = _share(rows, column, lambda value: _is_turns(value, key))
        if share:
            return FormatSpec(name, {role: column, **_extras(rows)}, share, reason)
    return None


def _alpaca(rows: Sequence[Row]) -> FormatSpec | None:
    share = min(_share(rows, "instruction", _is_text), _share(rows, "output", _is_scalar))
    if not share:
        return None
    optional = {role: role for role in ("input", "history") if any(role in row for row in rows)}
    columns = {"instruction": "instruction", "output": "output", **optional, **_extras(rows)}
    columns.pop("tools", None)
    return FormatSpec("alpaca", columns, share, "columns instruction and output")


def _prompt_completion(rows: Sequence[Row]) -> FormatSpec | None:
    names = {column.lower(): column for column in reversed(_column_names(rows))}
    for prompt, completion in PAIRS:
        if prompt in names and completion in names:
            mapped = {"prompt": names[prompt], "completion": names[completion]}
            shares = _share(rows, mapped["prompt"], _is_prompt), _share(rows, mapped["completion"], _is_answer)
            if min(shares):
                columns = {**mapped, **_extras(rows)}
                return FormatSpec("prompt_completion", columns, min(shares), f"columns {prompt} and {completion}")
    return _nameless_pair(rows)


def _nameless_pair(rows: Sequence[Row]) -> FormatSpec | None:
    """Two columns of a file that does not name them, as of a table without a header."""
    if _column_names(rows) != list(NAMELESS_PAIR):
        return None
    share = min(_share(rows, name, _is_scalar) for name in NAMELESS_PAIR)
    columns = dict(zip(("prompt", "completion"), NAMELESS_PAIR, strict=True))
    reason = "two columns without names, of which the first is taken for the prompt"
    return FormatSpec("prompt_completion", columns, share / 2, reason) if share else None


def _text(rows: Sequence[Row]) -> FormatSpec | None:
    columns = _column_names(rows)
    lowered = {column.lower(): column for column in reversed(columns)}
    for name in TEXT_COLUMNS:
        if name in lowered and (share := _share(rows, lowered[name], _is_text)):
            return FormatSpec("text", {"text": lowered[name]}, share, f"a column {lowered[name]} of text")
    texts = [column for column in columns if _share(rows, column, _is_text)]
    if len(texts) == 1 and len(columns) == 1:
        return FormatSpec("text", {"text": texts[0]}, 0.6 * _share(rows, texts[0], _is_text), "its only column is text")
    return None


_DETECTORS: dict[str, Callable[[Sequence[Row]], FormatSpec | None]] = {
    "tokenized": _tokenized,
    "preference": _preference,
    "kto": _kto,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
    "text": _text,
}


def _share(rows: Sequence[Row], column: str, fits: Callable[[Any], bool]) -> float:
    """The share of rows whose column fits, 0 unless most do."""
    count = Counter(fits(row.get(column)) for row in rows)[True]
    share = count / len(rows) if rows else 0.0
    return share if share > 0.5 else 0.0


def _first_of(rows: Sequence[Row], role: str, names: Sequence[str]) -> dict[str, str]:
    name = next((name for name in names if any(row.get(name) is not None for row in rows)), None)
    return {role: name} if name else {}


def _extras(rows: Sequence[Row]) -> dict[str, str]:
    """Columns of system messages and tools."""
    system = [name for name in SYSTEM_COLUMNS if any(isinstance(row.get(name), str) for row in rows)]
    tools = [name for name in TOOLS_COLUMNS if any(row.get(name) for row in rows)]
    return {**({"system": system[0]} if system else {}), **({"tools": tools[0]} if tools else {})}


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value[:32])


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _is_turns(value: Any, key: str) -> bool:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) and key in turn for turn in value)


def _is_prompt(value: Any) -> bool:
    return _is_text(value) or _is_turns(value, "role")


def _is_answer(value: Any) -> bool:
    is_message = isinstance(value, dict) and ("role" in value or "from" in value)
    return _is_scalar(value) or is_message or _is_turns(value, "role") or _is_turns(value, "from")
