"""The field catalogue: every knob of the schema as data, for the Args screen, `--set`, error messages and the README.

The schema declares a field once; this module reads it off. Nothing here knows a field by name.
"""

from __future__ import annotations

import inspect
import json
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.config.schema import RunConfig

Kind = Literal["bool", "int", "float", "text", "choice", "list", "table", "mixed"]

_KINDS: dict[Any, Kind] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "text",
    list: "list",
    dict: "table",
    Literal: "choice",
}

GROUPS = (
    "Run",
    "Model",
    "Data",
    "LoRA",
    "Batch",
    "Optimiser",
    "Schedule",
    "Precision and memory",
    "Parallel",
    "Checkpoints",
    "Evaluation and logging",
    "Sampling",
    "Hub",
)
"""The groups in the order in which they are shown."""

ALIASES: dict[str, str] = {
    "training.gradient_checkpointing": "training.activation_checkpointing",
    "training.gradient_checkpointing_kwargs": "training.activation_checkpointing_kwargs",
    "training.gradient_clipping": "training.max_grad_norm",
    "training.warmup_ratio": "training.warmup_steps",
    "training.group_by_length": "training.train_sampling_strategy",
    "training.lr": "training.learning_rate",
    "data.max_seq_length": "data.max_length",
    "launch.nproc_per_node": "launch.num_processes",
    "lora.lora_alpha": "lora.alpha",
    "lora.lora_dropout": "lora.dropout",
    "sampling.max_new_tokens": "sampling.max_tokens",
}
"""Other names under which users know a field, with the name it has here."""

_NOUNS: dict[Kind, str] = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "text": "a text",
    "choice": "a choice",
    "list": "a list",
    "table": "a table",
    "mixed": "a value",
}


@dataclass(frozen=True)
class Knob:
    """One field of the configuration.

    Attributes:
        key: dotted key in the file, "training.learning_rate".
        group: heading it is shown under.
        kind: what sort of value it takes; "mixed" when several.
        choices: the permitted texts, empty if any.
        default: its default; None where unset means something of its own.
        is_optional: whether it may be unset.
        help: what it does.
        form: what a text has to look like, in words; empty if any will do.
        unit: unit of the value.
        is_expert: hidden until searched for or set.
        limits: permitted range as (operator, number) pairs.
        aliases: other names users know it by.
    """

    key: str
    group: str
    kind: Kind
    choices: tuple[str, ...]
    default: Any
    is_optional: bool
    help: str
    form: str
    unit: str
    is_expert: bool
    limits: tuple[tuple[str, float], ...]
    aliases: tuple[str, ...]
    adapter: TypeAdapter[Any]

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]

    @property
    def section(self) -> str:
        """The key without its last part; empty at the top level."""
        return self.key.rpartition(".")[0]

    @property
    def expected(self) -> str:
        """The permitted values as a phrase: "a number above 0 and at most 10"."""
        if self.kind == "mixed":
            return " or ".join(dict.fromkeys(self._nouns()))
        phrase = f"one of {', '.join(self.choices)}" if self.choices else self.form or _NOUNS[self.kind]
        words = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}
        limits = " and ".join(f"{words[operator]} {number:g}" for operator, number in self.limits)
        return f"{phrase} {limits}".strip()

    def _nouns(self) -> list[str]:
        members = [member for member in _members(self.adapter._type) if member is not type(None)]
        return [_noun(member) for member in members]


def _strip(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    annotation = _strip(annotation)
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _kind_of(annotation: Any) -> Kind:
    return _KINDS.get(get_origin(annotation) or annotation, "mixed")


def _noun(annotation: Any) -> str:
    kind = _kind_of(annotation)
    return " or ".join(map(repr, get_args(annotation))) if kind == "choice" else _NOUNS[kind]


def _declaring_group(section: type[BaseModel], name: str) -> str:
    for base in reversed(section.__mro__):
        if name in inspect.get_annotations(base):
            return str(getattr(base, "group", ""))
    raise LookupError(name)


def _limits(info: FieldInfo) -> tuple[tuple[str, float], ...]:
    operators = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return tuple(
        (operators[name], getattr(item, name))
        for item in info.metadata
        for name in ("ge", "gt", "le", "lt")
        if getattr(item, name, None) is not None
    )


def _knob(key: str, section: type[BaseModel], name: str, info: FieldInfo) -> Knob:
    members = tuple(member for member in _members(info.annotation) if member is not type(None))
    kind: Kind = _kind_of(members[0]) if len(members) == 1 else "mixed"
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    annotated: Any = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    return Knob(
        key=key,
        group=_declaring_group(section, name),
        kind=kind,
        choices=tuple(map(str, get_args(members[0]))) if kind == "choice" else (),
        default=info.get_default(call_default_factory=True, validated_data={}),
        is_optional=type(None) in _members(info.annotation),
        help=info.description or "",
        form=str(extra.get("form") or ""),
        unit=str(extra.get("unit") or ""),
        is_expert=bool(extra.get("expert")),
        limits=_limits(info),
        aliases=tuple(alias.rpartition(".")[2] for alias, target in ALIASES.items() if target == key),
        adapter=TypeAdapter(annotated, config=ConfigDict(strict=True)),
    )


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section class behind an annotation: itself, optional, or the members of a list."""
    for member in _members(annotation):
        inner = get_args(member)[0] if get_origin(member) is list else member
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None


def knobs_of(section: type[BaseModel], prefix: str = "") -> list[Knob]:
    """All knobs of a section class and of the sections inside it, in the order of declaration."""
    found: list[Knob] = []
    for name, info in section.model_fields.items():
        key = f"{prefix}{name}"
        inner = _section_of(info.annotation)
        if inner is None:
            found.append(_knob(key, section, name, info))
        else:
            found.extend(knobs_of(inner, f"{key}."))
    return found


@cache
def catalogue() -> Mapping[str, Knob]:
    """Every knob of a run's configuration by its dotted key, group by group."""
    knobs = sorted(knobs_of(RunConfig), key=lambda knob: GROUPS.index(knob.group))
    return {knob.key: knob for knob in knobs}


@cache
def sampling_knobs() -> Mapping[str, Knob]:
    """The knobs of an answer by their names, as they are used outside of a run's configuration."""
    return {knob.name: knob for knob in knobs_of(SamplingParams)}


@cache
def section_keys() -> frozenset[str]:
    """Dotted keys that hold knobs rather than values: "training", "data.sources" and so on."""
    return frozenset(
        knob.section[:end]
        for knob in catalogue().values()
        for end in (*(i for i, c in enumerate(knob.section) if c == "."), len(knob.section))
        if knob.section
    )


def find_key(name: str) -> str | None:
    """The full key for a dotted key, an alias, or a last part that only one knob has."""
    if name in catalogue() or name in ALIASES:
        return name
    matches = [key for key in catalogue() if key.endswith(f".{name}") and not key.startswith("data.sources.")]
    if not matches:
        matches = [alias for alias in ALIASES if alias.endswith(f".{name}")]
    return matches[0] if len(matches) == 1 else None


def parse_text(knob: Knob, text: str) -> Any:
    """The value that a typed text means for a knob, as in `--set` and on the Args screen.

    Numbers, lists and tables are written as in TOML; a text needs no quotes. An empty text or "none" unsets.

    Raises:
        ValueError: the text is not a permitted value; the message says what is.
    """
    text = text.strip()
    if knob.is_optional and text.lower() in ("", "none"):
        return None
    value: Any = text
    if knob.kind not in ("text", "choice"):
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = {"yes": True, "on": True, "no": False, "off": False}.get(text.lower(), text)
    return check_value(knob, value)


def check_value(knob: Knob, value: Any) -> Any:
    """`value` if it is permitted for the knob.

    Raises:
        ValueError: it is not; the message says what is.
    """
    try:
        return knob.adapter.validate_python(value, strict=True)
    except ValidationError:
        raise ValueError(f"must be {knob.expected}, not {shown(value)}") from None


def shown(value: Any) -> str:
    """A value as it would stand in the file; None as "none"."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    if isinstance(value, float) and not isinstance(value, bool):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return json.dumps(value, ensure_ascii=False)
