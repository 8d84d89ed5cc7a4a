"""Several processes that turn rows into examples, for sets so large that one would be slow.

The tokenizer itself uses all cores, but reading rows and rendering templates do not. Each member of the crew opens the
data for itself and is told ranges of rows, one JSON line each; it answers with their examples, one JSON line too. What
comes out is what one process would make, in the same order; a test holds that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.data.example import Example, Weighted
from tui_trainer.engine.data.fingerprint import fingerprint_of
from tui_trainer.engine.data.pipeline import BATCH_ROWS
from tui_trainer.engine.data.pipeline_setup import pipeline_for
from tui_trainer.engine.data.problems import Code, RowProblem
from tui_trainer.engine.data.rowset import RowSet, open_data
from tui_trainer.engine.data.tokenizer import TextTokenizer, TokenizerState
from tui_trainer.errors import DataError, MachineError, WorkbenchError, error_from_dict

_ROWS_A_MEMBER = 20_000
"""Rows for which one more process is worth its start."""

_MIN_CPUS = 4
_MAX_MEMBERS = 16
_WINDOW = 3
"""Ranges under way for each member, so that none waits for the one that comes first."""


@dataclass(frozen=True)
class Job:
    """What a crew works on.

    Attributes:
        config: the run.
        state: its tokenizer.
        split: the split instead of the one to train on.
        is_evaluation: the rows to evaluate on are meant.
    """

    config: RunConfig
    state: TokenizerState
    split: str | None = None
    is_evaluation: bool = False

    def to_json(self, fingerprint: str) -> bytes:
        """The first line a member gets."""
        data = {
            "config": self.config.model_dump(mode="json"),
            "state": self.state.to_dict(),
            "split": self.split,
            "is_evaluation": self.is_evaluation,
            "fingerprint": fingerprint,
        }
        return json.dumps(data).encode() + b"\n"


def crew_size(num_proc: int | None, num_rows: int | None) -> int:
    """How many processes are worth it; 1 means this one alone.

    Args:
        num_proc: `data.num_proc`.
        num_rows: rows in all, None if they are not counted.
    """
    if num_proc is not None:
        return num_proc
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cpus < _MIN_CPUS or num_rows is None:
        return 1
    return max(1, min(cpus, num_rows // _ROWS_A_MEMBER, _MAX_MEMBERS))


def crew_examples(job: Job, rows: RowSet, fingerprint: str, size: int) -> Iterator[list[Example]]:
    """The examples of all rows, in order, without their texts.

    Args:
        job: what the crew works on.
        rows: the rows, counted here.
        fingerprint: of the rows as they are tokenised; a member that finds another refuses.
        size: number of processes.

    Raises:
        DataError: the data cannot be read, or was changed meanwhile.
        MachineError: a process died.
    """
    total = rows.count()
    members: SimpleQueue[_Member] = SimpleQueue()
    crew = [_Member(job.to_json(fingerprint)) for _ in range(size)]
    for member in crew:
        members.put(member)

    def work(start: int) -> list[Example]:
        member = members.get()
        try:
            return member.examples(start, min(start + BATCH_ROWS, total))
        finally:
            members.put(member)

    with ThreadPoolExecutor(size) as pool:
        try:
            under_way: deque[Future[list[Example]]] = deque()
            for start in range(0, total, BATCH_ROWS):
                under_way.append(pool.submit(work, start))
                if len(under_way) >= _WINDOW * size:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for member in crew:
                member.end()


class _Member:
    """One process of the crew."""

    def __init__(self, first_line: bytes) -> None:
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, "-m", "tui_trainer.engine.data.crew"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._send(first_line)

    def examples(self, start: int, stop: int) -> list[Example]:
        self._send(json.dumps([start, stop]).encode() + b"\n")
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise MachineError("a process that prepares the data died", remedy="Set data.num_proc = 1 to see why.")
        answer = json.loads(line)
        if "error" in answer:
            raise error_from_dict(answer["error"])
        return [_from_json(item) for item in answer["examples"]]

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            # the answer that does not come tells of it
            return


def _to_json(example: Example) -> list[Any]:
    problems = [[problem.code.value, problem.message] for problem in example.problems]
    counts = [example.is_usable, example.is_truncated, example.num_tokens_before, example.has_prompt]
    weighted = [[part.start, part.end, part.weight] for part in example.weighted]
    return [example.row, example.input_ids, example.trained, weighted, problems, *counts]


def _from_json(item: list[Any]) -> Example:
    row, input_ids, trained, weighted, problems, is_usable, is_truncated, num_tokens_before, has_prompt = item
    return Example(
        row=row,
        input_ids=input_ids,
        trained=[(start, end) for start, end in trained],
        weighted=[Weighted(*part) for part in weighted],
        problems=[RowProblem(Code(code), message) for code, message in problems],
        is_usable=is_usable,
        is_truncated=is_truncated,
        num_tokens_before=num_tokens_before,
        has_prompt=has_prompt,
    )


def _answers(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """What a member answers to its lines."""
    job = json.loads(next(lines))
    config = RunConfig.model_validate(job["config"])
    opened = open_data(config.data, config.stage, split=job["split"])
    rows = opened.evaluation if job["is_evaluation"] else opened.train
    assert rows is not None
    pipeline = pipeline_for(config, TextTokenizer(TokenizerState(**job["state"])), opened)
    found = fingerprint_of(rows, config.data, config.stage, pipeline.tokenizer, pipeline.template)
    for line in lines:
        if found != job["fingerprint"]:
            raise DataError("was changed while it was read", where=rows.parts[0].source.name, remedy="Start again.")
        start, stop = json.loads(line)
        examples = pipeline.examples(rows.records(start, stop))
        yield {"examples": [_to_json(replace(example, text="", messages=[])) for example in examples]}


def main() -> None:
    """Serve as a member of a crew until standard input ends."""
    sink = sys.stdout
    sys.stdout = sys.stderr
    try:
        for answer in _answers(iter(sys.stdin.buffer)):
            sink.write(json.dumps(answer) + "\n")
            sink.flush()
    except WorkbenchError as error:
        sink.write(json.dumps({"error": error.to_dict()}) + "\n")
        sink.flush()


if __name__ == "__main__":
    main()
