"""The README's table of all fields, made from the catalogue: `python -m tui_trainer.config.reference` prints it."""

from __future__ import annotations

import sys
from itertools import groupby

from tui_trainer.config.catalogue import Knob, catalogue, shown

_HEAD = "| field | values | default | what it does |\n| --- | --- | --- | --- |\n"


def field_table() -> str:
    """Markdown: a heading and a table for each group of fields, in the order of the Args screen."""
    groups = groupby(catalogue().values(), key=lambda knob: knob.group)
    return "\n".join(f"### {group}\n\n{_HEAD}{''.join(map(_row, knobs))}" for group, knobs in groups)


def _row(knob: Knob) -> str:
    others = f" Also `{'`, `'.join(knob.aliases)}`." if knob.aliases else ""
    values = f"{knob.expected}, in {knob.unit}" if knob.unit else knob.expected
    cells = (f"`{knob.key}`", values, _default(knob), knob.help + others)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


def _default(knob: Knob) -> str:
    if knob.default is None:
        return "unset"
    return "empty" if knob.default in ("", [], {}) else f"`{shown(knob.default)}`"


if __name__ == "__main__":
    sys.stdout.write(field_table())
