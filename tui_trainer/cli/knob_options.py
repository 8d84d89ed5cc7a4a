"""The sampling knobs as options of a command, made from the fields of `SamplingParams`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer

from tui_trainer.config.catalogue import Knob, parse_text, sampling_knobs
from tui_trainer.errors import ConfigurationError, Problem

_OTHER_NAMES = {"max_tokens": ["--max-new-tokens"]}
_TOKEN_IDS = ("stop_token_ids", "allowed_token_ids")
_PANEL = "Sampling"
_METAVARS = {"int": "NUMBER", "float": "NUMBER", "text": "TEXT", "list": "TEXT", "table": "TABLE", "mixed": "VALUE"}


def with_knob_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command an option for every knob; it receives those that were set as the mapping `knobs`.

    The options take texts, so that a wrong value is told in the words of the configuration.
    """
    knobs = sampling_knobs()
    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.name != "knobs"
    ]
    options = [_option(knob) for knob in knobs.values()]

    @wraps(command)
    def wrapper(**given: Any) -> int:
        typed = {name: given.pop(name) for name in knobs}
        return command(**given, knobs=_values(knobs, typed))

    wrapper.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *options]}
    return wrapper


def _option(knob: Knob) -> inspect.Parameter:
    name = "--" + knob.name.replace("_", "-")
    text = knob.help if not knob.unit else f"{knob.help} ({knob.unit})"
    if knob.kind == "bool":
        annotation: Any = bool | None
        option = typer.Option(f"{name}/--no-{name[2:]}", help=text, rich_help_panel=_PANEL, show_default=False)
    else:
        annotation = list[str] | None if knob.kind == "list" else str | None
        names = [name, *_OTHER_NAMES.get(knob.name, ())]
        option = typer.Option(
            *names, metavar=_METAVARS[knob.kind], help=text, rich_help_panel=_PANEL, show_default=False
        )
    return inspect.Parameter(
        knob.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation, option]
    )


def _values(knobs: Mapping[str, Knob], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the options that were given.

    Raises:
        ConfigurationError: some are not permitted; all of them are named.
    """
    values: dict[str, Any] = {}
    problems = []
    for name, given in typed.items():
        if given is None or given == []:
            continue
        try:
            values[name] = _value(knobs[name], given)
        except ValueError as error:
            problems.append(Problem("--" + name.replace("_", "-"), str(error)))
    if problems:
        raise ConfigurationError.of(problems)
    if "beam_width" in values:
        values.setdefault("use_beam_search", True)
    return values


def _value(knob: Knob, given: Any) -> Any:
    if isinstance(given, bool):
        return given
    if knob.name in _TOKEN_IDS:
        return [_whole_number(text) for part in given for text in part.replace(",", " ").split()]
    return list(given) if isinstance(given, list) else parse_text(knob, given)


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be token ids, not {text!r}") from None
