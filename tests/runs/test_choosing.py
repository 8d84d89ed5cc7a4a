"""Some checkpoints of a run by a short text."""

from __future__ import annotations

import pytest

from tui_trainer.runs.choosing import chosen_checkpoints

STEPS = (100, 200, 300, 400, 500)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("all", "100 200 300 400 500"),
        ("every 2", "100 300 500"),
        ("every 3", "200 500"),
        ("200-400", "200 300 400"),
        ("350-", "400 500"),
        ("-150, latest", "100 latest"),
        ("500, 100, 500, best", "500 100 best"),
    ],
)
def test_parts_mean_checkpoints_each_once(text: str, meant: str) -> None:
    assert chosen_checkpoints(text, STEPS) == meant.split()


@pytest.mark.parametrize(
    ("text", "said"), [("150", "no checkpoint '150'; it has 100"), ("every 0", "every 0"), (" , ", "is named")]
)
def test_what_means_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        chosen_checkpoints(text, STEPS)
