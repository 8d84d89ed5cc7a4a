"""The sample `dates`: a date written in one of ten ways, to be rewritten as year-month-day. Generated, and fixed."""

from __future__ import annotations

import random
from collections.abc import Callable

NUM_TRAIN = 8_000
NUM_HELD_OUT = 500

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_DIGITS = "〇一二三四五六七八九"
_FIRST_YEAR, _NUM_YEARS = 1950, 100

Row = dict[str, str]


def _ordinal(day: int) -> str:
    ending = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def _chinese(number: int) -> str:
    """A number up to 31 as it is spoken: 三, 十, 二十一."""
    tens, ones = divmod(number, 10)
    return ("" if tens == 0 else "十" if tens == 1 else _DIGITS[tens] + "十") + (_DIGITS[ones] if ones else "")


_STYLES: tuple[Callable[[int, int, int], str], ...] = (
    lambda y, m, d: f"{_MONTHS[m - 1]} {d}, {y}",
    lambda y, m, d: f"{d} {_MONTHS[m - 1]} {y}",
    lambda y, m, d: f"the {_ordinal(d)} of {_MONTHS[m - 1]} {y}",
    lambda y, m, d: f"{_MONTHS[m - 1][:3]} {_ordinal(d)} {y}",
    lambda y, m, d: f"{d}-{_MONTHS[m - 1][:3]}-{y}",
    lambda y, m, d: f"{d}.{m:02d}.{y}",
    lambda y, m, d: f"{m}/{d}/{y}",
    lambda y, m, d: f"{y}/{m:02d}/{d:02d}",
    lambda y, m, d: f"{y}年{m}月{d}日",
    lambda y, m, d: f"{''.join(_DIGITS[int(digit)] for digit in str(y))}年{_chinese(m)}月{_chinese(d)}日",
)
"""Ten ways to write a date; none can be mistaken for another."""


def train_dates() -> list[Row]:
    """8,000 rows to train on."""
    return _rows()[:NUM_TRAIN]


def held_out_dates() -> list[Row]:
    """500 rows whose written form is in no training row; about a fifth of the dates are, written otherwise."""
    return _rows()[NUM_TRAIN:]


def _rows() -> list[Row]:
    """Different strings in random order."""
    generator = random.Random(2021)  # noqa: S311 - no secret
    rows: dict[str, str] = {}
    while len(rows) < NUM_TRAIN + NUM_HELD_OUT:
        year = _FIRST_YEAR + generator.randrange(_NUM_YEARS)
        month, day = 1 + generator.randrange(12), 1 + generator.randrange(28)
        rows[generator.choice(_STYLES)(year, month, day)] = f"{year}-{month:02d}-{day:02d}"
    return [{"input": written, "output": normal} for written, normal in rows.items()]
