"""Which rows of a dataset are wanted: what the Data screen asks for and the data worker answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tui_trainer.errors import UsageError

ORDERS = ("", "longest", "shortest", "most_trained", "least_trained")
"""Orders the rows can have; the first is that of the data."""

ANY_PROBLEM = "any"
"""Stands for every problem code."""


@dataclass(frozen=True)
class RowQuery:
    """Which rows are wanted; a row has to fit all of it.

    Attributes:
        text: a value of the row holds it; empty for any row.
        is_regex: whether the text is a regular expression.
        problem: code of a problem the row has, or `ANY_PROBLEM`; empty for any row.
        min_tokens: tokens it has at least, before anything is cut.
        max_tokens: tokens it has at most.
        order: one of `ORDERS`.
    """

    text: str = ""
    is_regex: bool = False
    problem: str = ""
    min_tokens: int | None = None
    max_tokens: int | None = None
    order: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> RowQuery:
        """From a request.

        Raises:
            UsageError: the request asks for something there is not.
        """
        unknown = [name for name in given if name not in cls.__dataclass_fields__]
        if unknown or given.get("order", "") not in ORDERS:
            raise UsageError(f"rows cannot be asked for by {unknown or given['order']}")
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """The request: what differs from the defaults."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    @property
    def is_all(self) -> bool:
        """Whether all rows are wanted, in their own order."""
        return self == RowQuery()

    @property
    def needs_verdict(self) -> bool:
        """Whether it asks for what only the verdict knows."""
        return bool(self.problem or self.order) or self.min_tokens is not None or self.max_tokens is not None
