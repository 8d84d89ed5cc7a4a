"""What somebody agreed to train on although it damages what is learned: `consent.json` in the run directory.

Written by whoever starts a run, after a yes on the screen or on a terminal, or by `--force`; read by the trainer, which
refuses lost answers, dropped content and mismatches that nobody agreed to. It travels with the run: through the queue,
a batch system and restarts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Self

from tui_trainer.runs.files import read_json, write_json
from tui_trainer.runs.layout import RunLayout

VERSION = 1


@dataclass(frozen=True)
class DataConsent:
    """A yes to problems of the data.

    Attributes:
        codes: the problem codes that were shown and agreed to.
        is_blanket: whatever is found is agreed to.
        by: who said so, for the record.
    """

    codes: frozenset[str] = frozenset()
    is_blanket: bool = False
    by: str = ""

    def missing(self, codes: list[str]) -> list[str]:
        """Those of some problem codes that nobody agreed to."""
        return [] if self.is_blanket else [code for code in codes if code not in self.codes]

    def write(self, layout: RunLayout) -> None:
        """Put the yes into the run directory, for good.

        Raises:
            OSError: the directory cannot be written.
        """
        fields: dict[str, Any] = {"codes": sorted(self.codes), "blanket": self.is_blanket, "by": self.by}
        write_json(layout.consent, {"version": VERSION, **fields, "t": time.time()}, durable=True)

    @classmethod
    def read(cls, layout: RunLayout) -> Self:
        """The yes in the run directory; one to nothing if there is none or it cannot be understood."""
        data = read_json(layout.consent) or {}
        codes = data.get("codes")
        found = frozenset(str(code) for code in codes) if isinstance(codes, list) else frozenset[str]()
        return cls(found, data.get("blanket") is True, str(data.get("by") or ""))
