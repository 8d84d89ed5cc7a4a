"""What is written of a run: events with their numbers, last words, reasons."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tui_trainer.engine.trainer.evaluation import eval_batches
from tui_trainer.engine.trainer.failures import classify
from tui_trainer.engine.trainer.group import Group
from tui_trainer.engine.trainer.journal import EventLog, ProgressReport, RankFile
from tui_trainer.errors import CancelledError, DataError, MachineError
from tui_trainer.runs.events import EvalMetrics, Progress, RunFinished, RunStarted, Sample, StepMetrics, decode
from tui_trainer.runs.files import read_json
from tui_trainer.runs.journal import read_lines
from tui_trainer.runs.layout import RunLayout


def test_a_run_tells_its_start_its_steps_and_its_end(tiny: Any) -> None:
    rows = tiny.rows(24)
    run = tiny.run("max_steps=6", "logging_steps=2", rows=rows)
    run.train()
    (started,) = run.written(RunStarted)
    assert (started.max_steps, started.num_rows, started.world_size, started.device) == (6, 24, 1, "cpu")
    assert started.num_parameters == started.num_trainable_parameters == sum(w.numel() for w in run.model.parameters())
    steps = run.written(StepMetrics)
    assert [event.step for event in steps] == [2, 4, 6]
    lengths = [len(row["input_ids"]) for row in rows]
    assert [event.num_input_tokens for event in steps] == [sum(lengths[: 4 * step]) for step in (2, 4, 6)]
    for event in steps:
        assert event.tokens_per_second > 0
        assert 0 < event.step_seconds < 60
        assert event.memory_bytes > 1e7
        assert event.grad_norm > 0
    assert steps[-1].epoch == 1.0
    assert [event.step for event in run.written(RunFinished)] == [6]


def test_tokens_of_padding_are_not_counted(tiny: Any) -> None:
    rows = tiny.rows(8)
    table = (
        'model.from_scratch={model_type = "mistral", hidden_size = 32, intermediate_size = 64, num_hidden_layers = 1, '
        "num_attention_heads = 4, num_key_value_heads = 2, sliding_window = 16}"
    )
    run = tiny.run(table, "max_steps=2", rows=rows)
    run.train()
    assert run.written(StepMetrics)[-1].num_input_tokens == sum(len(row["input_ids"]) for row in rows)


def test_samples_and_exact_match_come_with_each_evaluation(tiny: Any) -> None:
    run = tiny.run(
        "max_steps=2",
        "eval_strategy=steps",
        "eval_steps=2",
        "eval_on_start=true",
        "data.eval_split=x",
        'sampling.prompts=["one", "two"]',
        "sampling.max_tokens=5",
        "sampling.temperature=0",
        "sampling.num_exact_match=2",
        eval_rows=tiny.rows(4),
        references=[tiny.reference([1, 2, 3], "no"), tiny.reference([4, 5], "never")],
    )
    run.train()
    assert [(event.step, event.prompt) for event in run.written(Sample)] == [
        (0, "one"),
        (0, "two"),
        (2, "one"),
        (2, "two"),
    ]
    first, last = run.written(EvalMetrics)
    assert set(first.metrics) == {"eval_loss", "eval_exact_match", "eval_seconds"}
    assert first.metrics["eval_exact_match"] == 0.0
    assert last.metrics["eval_loss"] < first.metrics["eval_loss"]


def test_prompts_alone_are_enough_for_an_evaluation(tiny: Any) -> None:
    run = tiny.run(
        "max_steps=2", "eval_strategy=steps", "eval_steps=1", 'sampling.prompts=["one"]', "sampling.max_tokens=2"
    )
    run.train()
    assert [event.step for event in run.written(Sample)] == [1, 2]


def test_exact_match_counts_right_answers(tiny: Any) -> None:
    run = tiny.run("sampling.max_tokens=6", "sampling.temperature=0")
    quiz = run.trainer._tools.quiz
    prompts = [[65, 66, 67], [1, 2], [200, 201, 202, 203, 204]]
    run.model.eval()
    answers = [answer.text for answer in quiz._greedy(run.model, prompts)]
    quiz.references = [tiny.reference(ids, answer) for ids, answer in zip(prompts, answers, strict=True)]
    assert quiz.exact_match(run.model) == 1.0
    quiz.references[0] = tiny.reference(prompts[0], answers[0] + "!")
    assert quiz.exact_match(run.model) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("num_rows", "size", "world"), [(10, 4, 3), (1, 4, 2), (12, 4, 3), (7, 2, 2), (9, 1, 4)])
def test_ranks_share_the_rows_evenly_and_none_twice(num_rows: int, size: int, world: int) -> None:
    shares = [eval_batches(num_rows, size, Group(rank, world, torch.device("cpu"))) for rank in range(world)]
    assert len({len(batches) for batches, _ in shares}) == 1
    counted = [row for batches, count in shares for batch in batches[:count] for row in batch]
    assert sorted(counted) == list(range(num_rows))


def test_events_wait_for_space_and_none_is_torn_or_lost(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    events = EventLog(layout, is_writer=True)
    events.write(Progress(task="a" * 50))
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = layout.events.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, old_limit[1]))
    try:
        events.write(Progress(task="b"))
        events.write(Progress(task="c"))
        assert layout.events.stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    events.write(Progress(task="d"))
    read = [decode(line) for line in read_lines(layout.events)]
    assert [event.task[0] for event in read if isinstance(event, Progress)] == ["a", "b", "c", "d"]
    assert [event.seq for event in read if event] == [0, 1, 2, 3]


def test_progress_is_thinned_out_but_never_loses_a_task_or_its_end(tmp_path: Path) -> None:
    events = EventLog(RunLayout(tmp_path), is_writer=True)
    report = ProgressReport(events)
    for task in ("read", "tokenise"):
        for done in range(1001):
            report(task, done, 1000)
    read = [event for line in read_lines(tmp_path / "events.jsonl") if isinstance(event := decode(line), Progress)]
    assert len(read) < 20
    assert {(event.task, event.done) for event in read} >= {
        ("read", 0),
        ("read", 1000),
        ("tokenise", 0),
        ("tokenise", 1000),
    }


def test_other_ranks_write_no_events(tmp_path: Path) -> None:
    events = EventLog(RunLayout(tmp_path), is_writer=False)
    events.write(Progress(task="x"))
    assert not (tmp_path / "events.jsonl").exists()


def test_a_rank_leaves_its_identity_and_last_words(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    layout.ranks.mkdir()
    rank = RankFile(layout, 3)
    fields = read_json(layout.rank(3))
    assert fields is not None
    assert (fields["pid"], fields["rank"]) == (os.getpid(), 3)
    assert "exception" not in fields
    rank.last_words(classify(DataError("row 7 has no answer", where="a.jsonl")).to_dict())
    words = json.loads(layout.rank(3).read_text())
    assert words["pid"] == os.getpid()
    assert words["exception"]["reason"] == "data"
    assert words["exception"]["message"] == "a.jsonl: row 7 has no answer"
    assert words["exception"]["t"] > 0


class OutOfMemoryError(RuntimeError):
    """As torch's."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "gpu_out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "gpu_out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk_full"),
        (OSError(errno.EDQUOT, "quota"), "disk_full"),
        (DataError("no rows"), "data"),
        (MachineError("no GPU"), "machine"),
        (CancelledError("stopped"), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (ValueError("shapes differ"), "library_error"),
    ],
)
def test_errors_are_sorted_into_reasons(error: BaseException, reason: str) -> None:
    failure = classify(error)
    assert failure.reason == reason
    assert failure.message
    assert failure.remedy or reason in ("stopped", "data", "machine")


def test_the_cause_of_an_error_counts() -> None:
    error = RuntimeError("unexpected pos 2313664 vs 2313552")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert classify(error).reason == "disk_full"


def test_activations_are_computed_again_the_way_that_suits_adapters_whatever_else_is_set(tiny: Any) -> None:
    given = ("activation_checkpointing=true", "activation_checkpointing_kwargs={preserve_rng_state = false}")
    run = tiny.run(*given, "max_steps=1")
    run.train()
    (settings,) = {
        tuple(sorted(module._gradient_checkpointing_func.keywords.items()))
        for module in run.model.modules()
        if hasattr(module, "_gradient_checkpointing_func")
    }
    assert dict(settings) == {"preserve_rng_state": False, "use_reentrant": False}
