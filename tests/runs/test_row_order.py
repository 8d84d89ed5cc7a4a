"""Which part of an epoch's order a step takes."""

from __future__ import annotations

import pytest

from tui_trainer.runs.checkpoint_state import DataPosition
from tui_trainer.runs.row_order import RowOrder


def order(
    num_rows: int = 10, num_done: int = 0, *, batch: int = 2, accumulation: int = 2, drop: bool = False
) -> RowOrder:
    return RowOrder(DataPosition(epoch=3, num_rows=num_rows, num_done=num_done), batch, accumulation, drop)


def test_steps_follow_each_other_and_the_last_of_an_epoch_is_shorter() -> None:
    assert [order().stretch(update) for update in range(4)] == [(3, 0, 4), (3, 4, 8), (3, 8, 10), (4, 0, 4)]
    assert [order(9).stretch(update) for update in (2, 5)] == [(3, 8, 9), (4, 8, 9)]


def test_what_was_begun_in_the_middle_goes_on_there() -> None:
    assert [order(num_done=6).stretch(update) for update in range(2)] == [(3, 6, 10), (4, 0, 4)]


def test_batches_that_are_not_full_may_be_left_out() -> None:
    assert [order(11, drop=True).stretch(update) for update in (2, 3)] == [(3, 8, 10), (4, 0, 4)]
    assert order(1, drop=True).stretch(0) is None


@pytest.mark.parametrize("data", [None, [], {}, {"position": 3}, {"position": {}, "batch": 2, "accumulation": 1}])
def test_what_cannot_be_counted_by_is_none(data: object) -> None:
    assert RowOrder.from_dict(data) is None
    assert RowOrder.from_dict(order().to_dict()) == order()
