"""The base of every configuration section, and `knob`, the one way to declare a field of it."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class Section(BaseModel):
    """A part of the configuration file: strict, frozen, unknown keys refused.

    `group` is the heading under which the Args screen and the README list the fields that the class declares.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    group: ClassVar[str] = ""


def knob(
    default: Any = ...,
    help: str = "",  # noqa: A002 - the field's usual word, as in argparse and dataclass metadata
    *,
    unit: str = "",
    expert: bool = False,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    pattern: str | None = None,
    form: str = "",
    factory: Any = None,
) -> Any:
    """Declare a field once; form field, command-line option, preset key and documentation come from it.

    Args:
        default: the value when nobody sets it.
        help: what the field does, for someone who meets it for the first time.
        unit: unit of the value, "tokens", "steps".
        expert: hidden on the Args screen until it is searched for or set.
        ge: smallest permitted value.
        gt: the value has to be above this.
        le: largest permitted value.
        lt: the value has to be below this.
        pattern: regular expression a text has to match.
        form: the same in words, for messages: "a name of at most 64 letters".
        factory: makes the default of a mutable field.
    """
    extra: dict[str, JsonValue] = {"unit": unit, "expert": expert, "form": form}
    limits: dict[str, Any] = {"ge": ge, "gt": gt, "le": le, "lt": lt, "pattern": pattern}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    if factory is not None:
        return Field(default_factory=factory, description=help, json_schema_extra=extra, **limits)
    return Field(default, description=help, json_schema_extra=extra, **limits)
