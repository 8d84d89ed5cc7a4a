"""The generated table of all fields."""

from __future__ import annotations

import re
import subprocess
import sys

from tui_trainer.config.catalogue import GROUPS, catalogue
from tui_trainer.config.reference import field_table


def test_every_field_has_a_row_of_four_cells() -> None:
    rows = [line for line in field_table().splitlines() if line.startswith("| `")]
    assert [re.match(r"\| `([^`]+)` \|", row)[1] for row in rows if row] == list(catalogue())  # type: ignore[index]
    assert {row.count("|") for row in rows} == {5}


def test_every_group_has_a_heading_in_order() -> None:
    assert re.findall(r"^### (.+)$", field_table(), re.MULTILINE) == list(GROUPS)


def test_rows_say_what_a_field_takes() -> None:
    table = field_table()
    assert "| `training.learning_rate` | a number above 0 and at most 10 | `5e-05` | Size of an update" in table
    assert "Also `gradient_checkpointing`." in table
    assert "| `data.max_length` | a whole number at least 8, in tokens | `1024` |" in table
    assert "| `launch.env` | a table | empty |" in table
    assert "| `model.quantization` | one of nf4, int8 | unset |" in table


def test_the_module_prints_the_table() -> None:
    command = [sys.executable, "-m", "tui_trainer.config.reference"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == field_table()
