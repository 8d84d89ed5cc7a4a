"""The shipped presets and the user's own: named TOML files whose header says what they are for.

A header is the comment at the top of the file: the title, an empty line, what it teaches, and the lines `# command:`,
`# time:`, `# memory:` and `# figures:`. Lines indented by more than one space continue the one above.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tui_trainer import paths
from tui_trainer.config.toml import write_new
from tui_trainer.errors import UsageError

SUFFIX = ".toml"
_FACT = re.compile(r"(command|time|memory|figures): *(.*)")


@dataclass(frozen=True)
class Preset:
    """One preset.

    Attributes:
        name: the file's name without its suffix.
        title: one line.
        description: what it is for and what it shows; paragraphs separated by an empty line.
        command: what to type to run it.
        expected_time: how long it takes, and on what.
        expected_memory: how much memory it takes.
        figures: where the two come from: measured on what, or estimated from what.
        path: the file.
        is_shipped: whether it came with the package.
    """

    name: str
    title: str
    description: str
    command: str
    expected_time: str
    expected_memory: str
    figures: str
    path: Path
    is_shipped: bool

    @property
    def text(self) -> str:
        """The whole file."""
        return self.path.read_text("utf-8-sig", errors="replace")


def own_presets_dir() -> Path:
    """Where the user's own presets are."""
    return paths.config_dir() / "presets"


def list_presets() -> list[Preset]:
    """All presets by name; one of the user's own takes the place of a shipped one of the same name."""
    found = {preset.name: preset for preset in _presets_in(paths.presets_dir(), is_shipped=True)}
    found |= {preset.name: preset for preset in _presets_in(own_presets_dir(), is_shipped=False)}
    return [found[name] for name in sorted(found)]


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: there is none; the message has the nearest name, or all of them.
    """
    presets = {preset.name: preset for preset in list_presets()}
    if name in presets:
        return presets[name]
    near = difflib.get_close_matches(name, presets, n=1, cutoff=0.5)
    remedy = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(presets)}."
    raise UsageError(f"there is no preset {name!r}", remedy=remedy)


def copy_preset(name: str, target: Path) -> None:
    """Copy a preset into a file of one's own to change, under its own name if `target` is a folder.

    Raises:
        UsageError: there is no such preset, or the target cannot be written.
        RefusedError: the target exists.
    """
    preset = find_preset(name)
    write_new(target / preset.path.name if target.is_dir() else target, preset.text)


def _presets_in(folder: Path, *, is_shipped: bool) -> Iterator[Preset]:
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            text = path.read_text("utf-8-sig", errors="replace")
        except OSError as error:
            text = f"# cannot be read: {error.strerror}"
        yield _preset(path, text, is_shipped=is_shipped)


def _preset(path: Path, text: str, *, is_shipped: bool) -> Preset:
    title, *rest = _header(text) or [""]
    facts = dict.fromkeys(("command", "time", "memory", "figures"), "")
    prose: list[str] = []
    fact = ""
    for line in rest:
        match = _FACT.fullmatch(line)
        if match:
            fact, facts[match[1]] = match[1], match[2]
        elif fact and line.startswith(" "):
            facts[fact] += f" {line.strip()}"
        else:
            fact = ""
            prose.append(line)
    paragraphs = re.split(r"\n\s*\n", "\n".join(prose).strip())
    return Preset(
        name=path.stem,
        title=title,
        description="\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs),
        command=facts["command"],
        expected_time=facts["time"],
        expected_memory=facts["memory"],
        figures=facts["figures"],
        path=path,
        is_shipped=is_shipped,
    )


def _header(text: str) -> list[str]:
    """The lines of the comment at the top, without "# "."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line[1:].removeprefix(" ").rstrip())
    return lines
