"""The front end's side of a worker, with a real process at the other end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.procs.conftest import HERE, eventually
from tui_trainer.errors import CancelledError, ConfigurationError, DataError, MachineError, WorkbenchError
from tui_trainer.procs.proctree import ProcessKey, session_members
from tui_trainer.procs.worker import Worker
from tui_trainer.text import is_unsafe
from tui_trainer.wire import frames

pytestmark = pytest.mark.e2e

COMMAND = (sys.executable, str(HERE / "tiny_worker.py"))


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    made = Worker("data", COMMAND)
    yield made
    await made.close()


def is_alive(pid: int) -> bool:
    return ProcessKey.of(pid) is not None


async def test_starts_with_the_first_call_and_answers(worker: Worker) -> None:
    assert worker.pid is None
    items: list[Any] = []
    assert await worker.call("echo", {"items": [1, {"a": None}, "\ud800é"], "value": 2.5}, items.append) == 2.5
    assert items == [1, {"a": None}, "\ud800é"]
    assert worker.pid is not None


async def test_one_process_for_many_calls_at_once(worker: Worker) -> None:
    values = await asyncio.gather(*(worker.call("echo", {"value": number}) for number in range(50)))
    assert values == list(range(50))
    pids = {answer["pid"] for answer in await asyncio.gather(*(worker.call("who", {}) for _ in range(5)))}
    assert pids == {worker.pid}


async def test_has_a_session_of_its_own(worker: Worker) -> None:
    answer = await worker.call("who", {})
    assert answer["session"] == answer["pid"] != os.getsid(0)


async def test_long_lines_both_ways(worker: Worker) -> None:
    text = "é" * 2_000_000
    assert await worker.call("echo", {"value": text}) == text


async def test_an_answer_too_long_is_refused_and_the_worker_goes_on(worker: Worker) -> None:
    with pytest.raises(WorkbenchError, match="more than the 64 MiB"):
        await worker.call("big", {"size": frames.MAX_FRAME_BYTES})
    assert await worker.call("echo", {"value": 1}) == 1


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("data", DataError, "a.jsonl:3: row 3 has no answer. Mend it"),
        ("configuration", ConfigurationError, "a.toml:1: data.path: is missing"),
        ("zero", WorkbenchError, "ZeroDivisionError: by design"),
        ("exit", WorkbenchError, "SystemExit: 3"),
        ("not json", WorkbenchError, "cannot be sent"),
    ],
)
async def test_errors_arrive_as_what_they_were(worker: Worker, how: str, kind: type[WorkbenchError], text: str) -> None:
    with pytest.raises(WorkbenchError) as caught:
        await worker.call("bad", {"how": how})
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert await worker.call("echo", {"value": 1}) == 1


async def test_unknown_method(worker: Worker) -> None:
    with pytest.raises(WorkbenchError, match="no method 'nothing'"):
        await worker.call("nothing", {})


async def test_what_libraries_print_never_reaches_the_pipe(worker: Worker) -> None:
    assert await worker.call("noisy", {}) == "read: b''"
    await asyncio.to_thread(eventually, lambda: "100%" in worker.log)
    assert '{"id": 1, "result": "forged"}' in worker.log
    assert "from a child" in worker.log
    assert "10%" in worker.log
    assert not any(map(is_unsafe, worker.log))


async def test_cancelling_the_task_ends_the_method(worker: Worker, tmp_path: Path) -> None:
    seen: list[int] = []
    task = asyncio.create_task(worker.call("forever", {"path": str(tmp_path / "note")}, seen.append))
    while not seen:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(eventually, (tmp_path / "note").exists)
    count = len(seen)
    assert await worker.call("echo", {"value": 1}) == 1
    assert len(seen) == count


async def test_a_bug_in_the_callback_belongs_to_the_caller(worker: Worker, tmp_path: Path) -> None:
    def buggy(_: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await worker.call("forever", {"path": str(tmp_path / "note")}, buggy)
    await asyncio.to_thread(eventually, (tmp_path / "note").exists)


@pytest.mark.parametrize(
    ("how", "text"), [("kill", "killed by SIGKILL"), ("exit", "exit code 7"), ("leave a child", "killed by SIGKILL")]
)
async def test_death_ends_all_calls_with_its_last_words_and_the_next_call_starts_anew(
    worker: Worker, tmp_path: Path, how: str, text: str
) -> None:
    waiting = asyncio.create_task(worker.call("forever", {"path": str(tmp_path / "note")}))
    old = (await worker.call("who", {}))["pid"]
    with pytest.raises(MachineError, match=text) as caught:
        await worker.call("die", {"how": how})
    assert "last words" in str(caught.value)
    assert "hf_" not in str(caught.value)
    assert not is_unsafe(str(caught.value))
    with pytest.raises(MachineError, match=text):
        await waiting
    await asyncio.to_thread(eventually, lambda: not session_members(old))
    new = (await worker.call("who", {}))["pid"]
    assert new != old
    assert not is_alive(old)


async def test_a_line_beyond_all_bounds_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_trainer.procs.worker.MAX_FRAME_BYTES", 1 << 20)
    worker = Worker("data", COMMAND)
    with pytest.raises(MachineError, match="a line of more than 1 MiB"):
        await worker.call("big", {"size": 5 << 20})
    await worker.close()


async def test_command_that_does_not_exist() -> None:
    worker = Worker("chat", ("/no/such/program",))
    with pytest.raises(MachineError, match="the chat worker cannot be started"):
        await worker.call("who", {})
    await worker.close()


async def test_close_leaves_nothing_and_can_be_followed_by_a_call(worker: Worker, tmp_path: Path) -> None:
    pid = (await worker.call("who", {}))["pid"]
    waiting = asyncio.create_task(worker.call("forever", {"path": str(tmp_path / "note")}))
    await asyncio.sleep(0)
    await worker.close()
    with pytest.raises((CancelledError, MachineError)):
        await waiting
    assert worker.pid is None
    assert not Path(f"/proc/{pid}").exists(), "a zombie is left"
    await worker.close()
    assert (await worker.call("who", {}))["pid"] != pid


async def test_close_is_not_held_up_by_a_thread_that_never_ends(worker: Worker) -> None:
    assert await worker.call("stubborn", {})
    pid = worker.pid
    assert pid is not None
    async with asyncio.timeout(10):
        await worker.close()
    assert not is_alive(pid)


FRONT_END = f"""
import asyncio, sys
from tui_trainer.procs.worker import Worker
async def main():
    worker = Worker("data", {COMMAND!r})
    await worker.call("stubborn", {{}})
    print((await worker.call("who", {{}}))["pid"], flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_dies_with_the_front_end() -> None:
    front_end = subprocess.Popen([sys.executable, "-c", FRONT_END], stdout=subprocess.PIPE)
    assert front_end.stdout is not None
    pid = int(front_end.stdout.readline())
    assert is_alive(pid)
    front_end.send_signal(signal.SIGKILL)
    front_end.wait()
    front_end.stdout.close()
    eventually(lambda: not is_alive(pid))
