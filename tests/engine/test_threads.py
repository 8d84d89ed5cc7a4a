"""Threads that wait asleep: from the start, or while the cores are shared."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tui_trainer.engine.threads import NUM_ROOMY_LOOKS, CrowdWatch, LightSleep, wait_asleep

WAITING = """
import time
import torch
from tui_trainer.engine.threads import LightSleep

numbers = torch.zeros(1 << 18)

def processor_seconds():
    begun = time.process_time()
    for _ in range(40):
        numbers.add_(1.0)
        time.sleep(0.003)
    return time.process_time() - begun

def total():
    torch.manual_seed(0)
    return torch.randn(1 << 20).sum().item().hex()

sleep = LightSleep()
processor_seconds()
before = processor_seconds(), total(), torch.get_num_threads()
sleep.begin()
during = processor_seconds(), total(), torch.get_num_threads()
sleep.end()
after = processor_seconds(), total(), torch.get_num_threads()
print(before[0], during[0], after[0], before[1:] == during[1:] == after[1:])
"""


def test_waiting_threads_sleep_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has no waiting threads")
def test_threads_that_spin_can_be_put_to_sleep_and_woken_and_compute_the_same() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    said = subprocess.run([sys.executable, "-c", WAITING], env=env, capture_output=True, text=True, check=True).stdout
    before, during, after, is_equal = said.split()
    assert is_equal == "True"
    assert float(during) < 0.6 * min(float(before), float(after)), said


class _Sleep(LightSleep):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    @property
    def is_on(self) -> bool:
        return self.told[-1:] == ["begin"]

    def begin(self) -> bool:
        self.told.append("begin")
        return True

    def end(self) -> None:
        self.told.append("end")


def test_a_thread_kept_from_its_core_lets_the_others_sleep_until_the_cores_stay_free() -> None:
    said: list[str] = []
    sleep, waited = _Sleep(), 0.0
    watch = CrowdWatch(said.append, sleep, lambda: waited)
    for share in (0.0, 0.1, 0.2):
        assert sleep.told == []
        waited += 2 * share
        watch.look(2.0)
    assert sleep.told == ["begin"]
    assert said == ["the cores are shared (no core for 20% of the time): waiting threads sleep\n"]
    for share in [0.0] * (NUM_ROOMY_LOOKS - 1) + [0.05] + [0.01] * NUM_ROOMY_LOOKS:
        assert sleep.told == ["begin"]
        waited += 2 * share
        watch.look(2.0)
    assert sleep.told == ["begin", "end"]
    assert said[1:] == ["the cores are free again: waiting threads spin\n"]
