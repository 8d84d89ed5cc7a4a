"""The stop ladder: what it does when, without waiting for it."""

from __future__ import annotations

from tui_trainer.procs.ladder import KILL_SECONDS, TERMINATE_SECONDS, Rung, StopLadder


def climb_all(ladder: StopLadder, now: float, until: float) -> list[tuple[float, Rung]]:
    """Advance second by second; the rungs climbed and when."""
    climbed = []
    while now <= until:
        rung = ladder.next_rung(now)
        if rung is not None and ladder.climb_to(rung, now):
            climbed.append((now, rung))
        now += 1.0
    return climbed


def test_nobody_is_pressed_before_somebody_asks() -> None:
    assert climb_all(StopLadder(5.0), 0.0, 1000.0) == []


def test_each_rung_has_its_time() -> None:
    ladder = StopLadder(30.0)
    assert ladder.climb_to(Rung.ASKED, 100.0)
    terminated = 100.0 + 30.0
    killed = terminated + TERMINATE_SECONDS
    assert climb_all(ladder, 100.0, 1000.0) == [
        (terminated, Rung.TERMINATED),
        (killed, Rung.KILLED),
        (killed + KILL_SECONDS, Rung.GIVEN_UP),
    ]


def test_a_short_grace_time_shortens_the_way_from_term_to_kill() -> None:
    ladder = StopLadder(1.0)
    ladder.climb_to(Rung.TERMINATED, 0.0)
    assert climb_all(ladder, 0.0, 2.0) == [(1.0, Rung.KILLED)]


def test_a_slow_step_gets_the_time_it_needs() -> None:
    ladder = StopLadder(30.0)
    ladder.climb_to(Rung.ASKED, 0.0, extra_seconds=120.0)
    assert ladder.next_rung(149.0) is None
    assert ladder.next_rung(150.0) is Rung.TERMINATED


def test_signs_of_work_put_off_the_next_rung_only_while_asked() -> None:
    ladder = StopLadder(30.0)
    ladder.climb_to(Rung.ASKED, 0.0)
    ladder.wait_until(50.0)
    ladder.wait_until(40.0)
    assert ladder.next_rung(49.0) is None
    assert ladder.next_rung(50.0) is Rung.TERMINATED
    ladder.climb_to(Rung.TERMINATED, 50.0)
    ladder.wait_until(1000.0)
    assert ladder.next_rung(50.0 + TERMINATE_SECONDS) is Rung.KILLED


def test_the_ladder_never_goes_down() -> None:
    ladder = StopLadder(30.0)
    ladder.climb_to(Rung.KILLED, 0.0)
    assert not ladder.climb_to(Rung.ASKED, 1.0)
    assert not ladder.climb_to(Rung.KILLED, 1.0)
    assert ladder.rung is Rung.KILLED
