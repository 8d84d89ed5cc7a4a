"""From another tool's file to a configuration of ours: which tool it is, what was carried over, and the TOML of it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tui_trainer.config.checks import Facts, check_config
from tui_trainer.config.draft import Draft
from tui_trainer.config.importing import axolotl, llamafactory, swift, trl
from tui_trainer.config.importing.carrying import Carrier, Kind, Remark, Tool
from tui_trainer.config.importing.reading import read_foreign
from tui_trainer.config.resolve import Layer, values_from
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.toml import Document
from tui_trainer.errors import Problem, UsageError
from tui_trainer.text import safe_line

TOOLS: dict[str, Tool] = {tool.name: tool for tool in (llamafactory.TOOL, axolotl.TOOL, trl.TOOL, swift.TOOL)}
HEADINGS: dict[Kind, str] = {
    "unknown": "Unknown, not carried over",
    "left_out": "Not carried over",
    "changed": "Carried over, but not the same",
    "default": "Written out, because the defaults differ",
}
"""What is said above each kind of remark, in the order of weight."""

_MIN_SIGNS = 2
_WIDTH = 118


@dataclass(frozen=True)
class Imported:
    """What became of a file.

    Attributes:
        tool: whose it is.
        config: the configuration, valid field by field.
        toml: the same as a file, with the remarks as comments.
        remarks: what was not carried over, or not as it was.
        idle: keys on which nothing depends here.
        num_carried: how many keys were carried over.
        problems: what still forbids a launch, or is odd, on any machine.
    """

    tool: Tool
    config: RunConfig
    toml: str
    remarks: tuple[Remark, ...]
    idle: tuple[str, ...]
    num_carried: int
    problems: tuple[Problem, ...]

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "from": self.tool.name,
            "toml": self.toml,
            "num_carried": self.num_carried,
            "remarks": [asdict(remark) for remark in self.remarks],
            "not_needed": list(self.idle),
            "problems": [problem.to_dict() for problem in self.problems],
        }


def import_config(file: Path, tool: str | None = None) -> Imported:
    """Carry another tool's configuration over.

    Args:
        file: its YAML or JSON.
        tool: a key of `TOOLS`; without it the tool is told by the keys of the file.

    Raises:
        UsageError: the file cannot be read, or nobody can tell whose it is.
        ConfigurationError: it is not valid, or asks for a training that does not exist here.
    """
    document = read_foreign(file)
    carrier = Carrier(_tool(document, tool), document, file.parent)
    carrier.carry()
    draft = Draft([values_from(Layer.FILE, carrier.values, str(file))])
    remarks = tuple(sorted(carrier.remarks, key=lambda remark: list(HEADINGS).index(remark.kind)))
    toml = "\n".join([*_comment(file, carrier.tool, remarks, carrier.idle), "", draft.to_toml()])
    problems = tuple(check_config(draft.config, Facts()))
    return Imported(carrier.tool, draft.config, toml, remarks, tuple(carrier.idle), carrier.num_carried, problems)


def _tool(document: Document, name: str | None) -> Tool:
    if name is not None:
        if name not in TOOLS:
            raise UsageError(f"there is no tool {name!r} to import from", remedy=f"Tools are {', '.join(TOOLS)}.")
        return TOOLS[name]
    keys = {key for key, value in document.tree.items() if value is not None}
    ranked = sorted(TOOLS.values(), key=lambda tool: -len(tool.signs & keys))
    first, second = (len(tool.signs & keys) for tool in ranked[:2])
    if first < _MIN_SIGNS or first == second:
        raise UsageError(
            "cannot be told whose configuration this is",
            where=document.path,
            remedy=f"Say it with --from: {', '.join(TOOLS)}.",
        )
    return ranked[0]


def sentences(remarks: Sequence[Remark]) -> Iterator[tuple[str, list[str]]]:
    """The remarks under their headings, each as one line."""
    for kind, heading in HEADINGS.items():
        if found := [_sentence(remark) for remark in remarks if remark.kind == kind]:
            yield heading, found


def _sentence(remark: Remark) -> str:
    line = remark.where.rpartition(":")[2]
    place = f" (line {line})" if line.isdigit() else ""
    return safe_line(f"{remark.key} = {remark.value}{place}: {remark.why}")


def _comment(file: Path, tool: Tool, remarks: Sequence[Remark], idle: Sequence[str]) -> Iterator[str]:
    """The head of the file: where it comes from, and all that is not as it was."""
    yield f"# From {safe_line(file.name)} of {tool.title}"
    for heading, lines in sentences(remarks):
        yield "#"
        yield f"# {heading}:"
        for line in lines:
            yield from _wrapped(line, "#   ")
    if idle:
        yield "#"
        yield from _wrapped("Not needed here: " + ", ".join(map(safe_line, idle)), "# ")


def _wrapped(line: str, indent: str) -> list[str]:
    return textwrap.wrap(
        line,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
