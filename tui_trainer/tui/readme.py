"""Writes the README's tables from the code: `python -m tui_trainer.tui.readme [README.md]`; a test holds them equal."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tui_trainer.config.presets import list_presets
from tui_trainer.config.reference import field_table
from tui_trainer.tui.keymap import key_table


def preset_table() -> str:
    """The shipped presets as Markdown."""
    rows = [
        f"| `{preset.name}` | {preset.title} | {preset.expected_time} | {preset.expected_memory} |"
        for preset in list_presets()
        if preset.is_shipped
    ]
    return "\n".join(["| preset | what | time | memory |", "| --- | --- | --- | --- |", *rows]) + "\n"


def with_tables(text: str) -> str:
    """The README with the parts between its markers made anew."""
    for name, table in (("presets", preset_table()), ("keys", key_table()), ("fields", field_table())):
        text = _with_table(text, name, table)
    return text


def _with_table(text: str, name: str, table: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{table}{match[2]}", text)


def main() -> int:
    """Rewrite the file."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    path.write_text(with_tables(path.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
