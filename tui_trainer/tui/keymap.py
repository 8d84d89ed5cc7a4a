"""The keys: the user's own assignments, and the table of all of them for the README."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module

from textual.binding import Binding, BindingsMap
from textual.dom import DOMNode

from tui_trainer.errors import ConfigurationError, Problem
from tui_trainer.paths import config_dir
from tui_trainer.tui.widgets.topbar import MODES

FILE_NAME = "keys.toml"
_SHARED = (
    ("Everywhere", "tui_trainer.tui.app", "WorkbenchApp"),
    ("Every screen", "tui_trainer.tui.screens.base", "WorkbenchScreen"),
)
_LISTS = (
    ("Lists", "tui_trainer.tui.widgets.cursor_list", "CursorList"),
    ("Fields", "tui_trainer.tui.widgets.field_list", "FieldList"),
    ("Rows", "tui_trainer.tui.widgets.row_table", "RowTable"),
    ("Tokens", "tui_trainer.tui.widgets.token_flow", "TokenFlow"),
    ("Batch", "tui_trainer.tui.widgets.batch_grid", "BatchGrid"),
    ("Turns and record", "tui_trainer.tui.widgets.text_pane", "TextPane"),
    ("Verdict", "tui_trainer.tui.screens.verdict", "VerdictScreen"),
    ("Opening a dataset", "tui_trainer.tui.screens.open_dataset", "OpenDatasetScreen"),
    ("What the rows hold", "tui_trainer.tui.screens.mapping", "MappingScreen"),
    ("Mixing datasets", "tui_trainer.tui.screens.mixing", "MixingScreen"),
    ("Lengths", "tui_trainer.tui.widgets.length_chart", "LengthChart"),
    ("Samples of a run", "tui_trainer.tui.widgets.answers", "Answers"),
    ("Transcript", "tui_trainer.tui.widgets.transcript", "Transcript"),
    ("Line of the chat", "tui_trainer.tui.widgets.prompt_line", "PromptLine"),
    ("Tokens of a reply", "tui_trainer.tui.screens.reply_tokens", "ReplyTokens"),
    ("What the model sees", "tui_trainer.tui.screens.seen", "Seen"),
    ("A set of prompts", "tui_trainer.tui.screens.measure", "MeasureSheet"),
    ("Choosing a model or a template", "tui_trainer.tui.widgets.search_pick", "SearchPick"),
)


def key_groups() -> Iterator[tuple[str, list[Binding]]]:
    """Every place that has keys of its own, with them."""
    from tui_trainer.tui.screens.base import WorkbenchScreen

    for heading, module, name in _SHARED:
        yield heading, _bindings_of(getattr(import_module(module), name))
    for _, name, title in MODES:
        screen = getattr(import_module(f"tui_trainer.tui.screens.{name}"), f"{title}Screen")
        parts = [part for part in screen.__mro__ if issubclass(part, WorkbenchScreen) and part is not WorkbenchScreen]
        yield title, [binding for part in parts for binding in _bindings_of(part)]
    for heading, module, name in _LISTS:
        yield heading, _bindings_of(getattr(import_module(module), name))


def _bindings_of(owner: type[DOMNode]) -> list[Binding]:
    """The bindings that a class declares itself, one for each id."""
    by_id: dict[str | None, Binding] = {}
    for _, binding in BindingsMap(owner.__dict__.get("BINDINGS", [])):
        known = by_id.get(binding.id)
        by_id[binding.id] = replace(binding, key=f"{known.key},{binding.key}") if known else binding
    return list(by_id.values())


def key_table() -> str:
    """All keys as Markdown."""
    lines = []
    for heading, bindings in key_groups():
        lines += [f"**{heading}**", "", "| key | id | what it does |", "| --- | --- | --- |"]
        lines += [f"| {_shown(binding.key)} | `{binding.id}` | {binding.tooltip} |" for binding in bindings]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


_SIGNS = {
    "question_mark": "?",
    "slash": "/",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "plus": "+",
    "comma": ",",
    "full_stop": ".",
    "greater_than_sign": ">",
    "less_than_sign": "<",
    "number_sign": "#",
    "colon": ":",
}


def _shown(keys: str) -> str:
    return " ".join(f"`{_SIGNS.get(key.strip(), key.strip())}`" for key in keys.split(","))


def read_keymap() -> dict[str, str]:
    """The user's assignments: binding id to keys, from `keys.toml` in the configuration folder.

    Raises:
        ConfigurationError: the file is not valid, or names an id that does not exist.
    """
    path = config_dir() / FILE_NAME
    if not path.is_file():
        return {}
    from tui_trainer.config.toml import read_document

    document = read_document(path)
    known = {binding.id for _, bindings in key_groups() for binding in bindings}
    problems = [
        Problem(
            name,
            "is no key of the workbench" if name not in known else 'must be a text, as "ctrl+s"',
            where=document.where((name,)),
        )
        for name, keys in document.tree.items()
        if name not in known or not isinstance(keys, str)
    ]
    if problems:
        raise ConfigurationError.of(problems)
    return {name: str(keys) for name, keys in document.tree.items()}
