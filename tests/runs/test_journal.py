"""Appending and following lines: no line lost, doubled or torn, whatever happens to the writer and to the file."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tui_trainer.runs.events import RunFinished, StepMetrics
from tui_trainer.runs.journal import JournalWriter, Tailer, read_lines


def test_events_are_numbered_across_writers(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with JournalWriter(path) as journal:
        first = journal.write(StepMetrics(step=1, loss=2.0))
        journal.write(StepMetrics(step=2, loss=float("nan")))
    with JournalWriter(path) as journal:
        last = journal.write(RunFinished(step=2), durable=True)
    assert (first.seq, last.seq) == (0, 2)
    assert first.t > 0
    rows = [json.loads(line) for line in read_lines(path)]
    assert [row["seq"] for row in rows] == [0, 1, 2]
    assert rows[1]["loss"] == "NaN"
    assert path.stat().st_mode & 0o777 == 0o600


def test_line_torn_by_a_kill_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"seq":0}\n{"seq":1,"torn')
    with JournalWriter(path) as journal:
        journal.append({"whole": 1})
    assert list(read_lines(path)) == [b'{"seq":0}', b'{"seq":1,"torn', b'{"whole":1}']


FILL = """
import resource, signal, sys
from pathlib import Path
from tui_trainer.runs.journal import JournalWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
journal = JournalWriter(path)
journal.append({"row": 0})
resource.setrlimit(resource.RLIMIT_FSIZE, (25, resource.RLIM_INFINITY))
for _ in range(3):
    try:
        journal.append({"row": "x" * 30})
    except OSError:
        print("full")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append({"row": "x" * 30})
"""


def test_full_disk_in_the_middle_of_a_line_is_reported_and_the_line_can_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    output = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=True).stdout
    assert output == "full\n" * 3
    lines = list(read_lines(path))
    assert lines[0] == b'{"row":0}'
    assert json.loads(lines[-1]) == {"row": "x" * 30}
    assert sum(line == lines[-1] for line in lines) == 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_tailer_gives_each_line_once_and_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tailer = Tailer(path)
    assert tailer.read() == []
    assert not tailer.has_more()
    with path.open("wb", buffering=0) as file:
        file.write(b"one\ntw")
        assert tailer.has_more()
        assert tailer.read() == [b"one"]
        assert tailer.read() == []
        assert not tailer.has_more()
        file.write(b"o\n\nthree\n")
        assert tailer.read() == [b"two", b"", b"three"]
    assert tailer.num_restarts == 0


def test_tailer_cuts_a_large_file_into_portions_at_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [b"%d" % number * 7 for number in range(1000)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    tailer = Tailer(path)
    portions = []
    while portion := tailer.read(100):
        portions.append(portion)
    assert [line for portion in portions for line in portion] == lines
    assert len(portions) > 50


def test_tailer_reads_a_line_longer_than_a_portion(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 5000 + b"\nend\n")
    assert Tailer(path).read(10)[0] == b"a" * 5000


@pytest.mark.parametrize("how", ["truncated", "replaced", "removed"])
def test_tailer_begins_anew_when_the_file_is_another_one(tmp_path: Path, how: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old 1\nold 2\nold, unfinished")
    tailer = Tailer(path)
    assert tailer.read() == [b"old 1", b"old 2"]
    if how == "truncated":
        os.truncate(path, 0)
    elif how == "removed":
        path.unlink()
    assert tailer.read() == []
    if how == "replaced":
        (tmp_path / "other").write_bytes(b"new, and longer than what was there before\n")
        (tmp_path / "other").rename(path)
        assert tailer.read() == [b"new, and longer than what was there before"]
        assert tailer.num_restarts == 1
    else:
        with path.open("ab") as file:
            file.write(b"new\n")
        assert tailer.read() == [b"new"]


@pytest.mark.parametrize(
    ("tail_bytes", "lines"),
    [
        (0, []),
        (1, []),
        (6, [b"three"]),
        (7, [b"three"]),
        (10, [b"two", b"three"]),
        (14, [b"one", b"two", b"three"]),
        (99, [b"one", b"two", b"three"]),
    ],
)
def test_tailer_from_near_the_end(tmp_path: Path, tail_bytes: int, lines: list[bytes]) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthree\n")
    tailer = Tailer(path, tail_bytes=tail_bytes)
    assert tailer.read() == lines
    with path.open("ab") as file:
        file.write(b"four\n")
    assert tailer.read() == [b"four"]
    assert tailer.num_restarts == 0


def test_tailer_from_the_end_of_an_unfinished_line_waits_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\nunfinished")
    tailer = Tailer(path, tail_bytes=3)
    with path.open("ab") as file:
        file.write(b" line\nwhole\n")
    assert tailer.read()[-1] == b"whole"


def test_reader_and_writer_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    count = 5000
    seen: list[int] = []

    def write() -> None:
        with JournalWriter(path) as journal:
            for number in range(count):
                journal.append({"n": number, "pad": "y" * (number % 200)})

    writer = threading.Thread(target=write)
    writer.start()
    tailer = Tailer(path)
    while len(seen) < count and (writer.is_alive() or tailer.has_more() or not seen):
        seen.extend(json.loads(line)["n"] for line in tailer.read(1000))
    writer.join()
    assert seen == list(range(count))


WRITE_FOREVER = """
import sys
from pathlib import Path
from tui_trainer.runs.journal import JournalWriter
journal = JournalWriter(Path(sys.argv[1]))
print("ready", flush=True)
n = 0
while True:
    journal.append({"n": n, "pad": "y" * 300}); n += 1
"""


def test_kill_9_never_tears_an_earlier_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        while not path.exists() or path.stat().st_size < 20_000:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        numbers = [json.loads(line)["n"] for line in read_lines(path)]
        assert numbers == list(range(len(numbers)))
        path.unlink()
