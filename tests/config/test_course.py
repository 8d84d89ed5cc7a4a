"""Moving the end of a run: where on its schedule each step stands afterwards."""

from __future__ import annotations

import pytest

from tui_trainer.config.course import Course


def test_what_nobody_moved_is_the_step_itself() -> None:
    course = Course.planned(100)
    assert [course.position(step) for step in (0, 1, 37, 100, 130)] == [0, 1, 37, 100, 100]
    assert isinstance(course.position(37), int)


@pytest.mark.parametrize(("new_end", "middle"), [(160, 70), (60, 70), (100, 70)])
def test_stretching_goes_on_from_here_and_ends_where_the_schedule_ends(new_end: int, middle: float) -> None:
    course = Course.planned(100).moved(40, new_end, "stretch")
    assert [course.position(step) for step in (0, 20, 40)] == [0, 20, 40]
    assert course.position((40 + new_end) / 2) == pytest.approx(middle)
    assert course.position(new_end) == 100
    assert course.position(new_end + 50) == 100


def test_keeping_the_pace_ends_early_or_stays_at_the_end() -> None:
    early = Course.planned(100).moved(40, 60, "keep")
    assert [early.position(step) for step in (40, 50, 60, 80)] == [40, 50, 60, 60]
    late = Course.planned(100).moved(40, 150, "keep")
    assert [late.position(step) for step in (40, 99, 100, 150)] == [40, 99, 100, 100]


def test_an_end_can_be_moved_again_and_again() -> None:
    course = Course.planned(100).moved(40, 160, "stretch").moved(100, 130, "keep").moved(115, 215, "stretch")
    assert course.position(40) == 40
    assert course.position(100) == pytest.approx(70)
    assert course.position(115) == pytest.approx(77.5)
    assert course.position(165) == pytest.approx(88.75)
    assert course.position(215) == 100
    positions = [course.position(step) for step in range(220)]
    assert positions == sorted(positions)


def test_a_course_comes_back_from_a_file() -> None:
    course = Course.planned(100).moved(40, 160, "stretch")
    assert Course.restored(course.end, [list(knot) for knot in course.knots]) == course
    with pytest.raises(ValueError, match="grow"):
        Course.restored(100, [[10, 0], [5, 1]])
