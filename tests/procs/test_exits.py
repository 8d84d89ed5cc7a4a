"""Every way a run can die is told from the others, from texts that real libraries wrote."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tui_trainer.config.catalogue import catalogue
from tui_trainer.procs.exits import REMEDIES, Evidence, classify, count_oom_kills, reason_of
from tui_trainer.procs.ladder import Rung
from tui_trainer.procs.orders import StopOrder
from tui_trainer.procs.outcome import outcome_of
from tui_trainer.runs.events import RunFailed, RunFinished, RunStopped
from tui_trainer.runs.status import State

TRACEBACK = """\
{'loss': 4.2, 'grad_norm': 0.3}
Traceback (most recent call last):
  File "train.py", line 12, in <module>
    trainer.train()
%s
"""

ERRORS = {
    "gpu_out_of_memory": [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79 GiB",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[rank1]: torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2 GiB",
    ],
    "out_of_memory": [
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 74.5 GiB for an array with shape (100000, 9)",
        "MemoryError",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "OSError: [Errno 12] Cannot allocate memory",
        "RuntimeError: DataLoader worker (pid 4711) is killed by signal: Killed. ",
    ],
    "disk_full": [
        "OSError: [Errno 28] No space left on device",
        "RuntimeError: [enforce fail at inline_container.cc:664] . unexpected pos 2313664 vs 2313552",
        "RuntimeError: PytorchStreamWriter failed writing file data/12: file write failed",
        "OSError: [Errno 122] Disk quota exceeded: '/home/u/run'",
        "safetensors_rust.SafetensorError: Error while serializing: I/O error: No space left on device (os error 28)",
    ],
    "shared_memory": [
        "RuntimeError: DataLoader worker (pid 1234) is killed by signal: Bus error. It is possible that dataloader's",
        "RuntimeError: unable to write to file </torch_1_2>: the workers are out of shared memory",
    ],
    "nan": ["FloatingPointError: the loss is nan at step 12", "ValueError: loss is not finite at step 3"],
    "port": [
        "torch.distributed.DistNetworkError: port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message",
        "RuntimeError: [Errno 98] Address already in use",
    ],
    "nccl": [
        "torch.distributed.DistBackendError: NCCL error in: ../ProcessGroupNCCL.cpp:1691, unhandled system error",
        "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1234",
        "RuntimeError: [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12)",
    ],
    "gpu_error": [
        "RuntimeError: CUDA error: device-side assert triggered",
        "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "RuntimeError: No CUDA GPUs are available",
    ],
    "package": [
        "ModuleNotFoundError: No module named 'bitsandbytes'",
        "ImportError: FlashAttention2 has been toggled on, but it cannot be used: flash_attn is not installed",
    ],
    "hub": [
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. Access to model meta-llama/X is restricted",
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files",
    ],
    "data": [
        "datasets.exceptions.DatasetGenerationError: An error occurred while generating the dataset",
        "jinja2.exceptions.TemplateError: Conversation roles must alternate user/assistant",
    ],
    "library_error": ["ValueError: something nobody has seen before", "KeyError: 'model.layers.0'"],
}


@pytest.mark.parametrize(("reason", "line"), [(reason, line) for reason, lines in ERRORS.items() for line in lines])
def test_reason_from_the_log(reason: str, line: str) -> None:
    verdict = classify(Evidence(exit_code=1, log_tail=TRACEBACK % line))
    assert verdict.reason == reason
    assert verdict.remedy == REMEDIES[reason]
    assert verdict.message


@pytest.mark.parametrize(("reason", "line"), [(reason, lines[0]) for reason, lines in ERRORS.items()])
def test_reason_from_the_last_words_of_a_rank(reason: str, line: str) -> None:
    kind, _, message = line.partition(": ")
    assert classify(Evidence(exceptions=[{"kind": kind, "message": message}])).reason == reason


def test_the_trainer_knows_best() -> None:
    words = {"kind": "DataError", "message": "row 12: no answer", "reason": "data", "remedy": "Mend row 12."}
    verdict = classify(Evidence(exit_code=1, exceptions=[words], num_oom_kills=3, log_tail=TRACEBACK % "MemoryError"))
    assert (verdict.reason, verdict.message, verdict.remedy) == ("data", "row 12: no answer", "Mend row 12.")


def test_the_rank_that_failed_first_counts_not_those_that_lost_it() -> None:
    echo = {"kind": "RuntimeError", "message": "[gloo/transport] Connection closed by peer [::1]:4"}
    cause = {"kind": "OSError", "message": "[Errno 28] No space left on device"}
    assert classify(Evidence(exceptions=[echo, cause])).reason == "disk_full"


def test_the_kernel_says_that_memory_ran_out() -> None:
    log = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n  exitcode  : -9 (pid: 12)"
    assert classify(Evidence(exit_code=1, num_oom_kills=1, log_tail=log)).reason == "out_of_memory"
    assert classify(Evidence(exit_code=1, num_oom_kills=0, log_tail=log)).reason == "killed"


@pytest.mark.parametrize(
    ("evidence", "reason", "message"),
    [
        (Evidence(exit_code=-9), "killed", "SIGKILL"),
        (Evidence(exit_code=-15), "killed", "SIGTERM"),
        (Evidence(exit_code=-11), "library_error", "SIGSEGV"),
        (Evidence(exit_code=1, log_tail="...died with <Signals.SIGSEGV: 11>."), "library_error", "SIGSEGV"),
        (Evidence(exit_code=1, log_tail="  exitcode  : -9 (pid: 4141)"), "killed", "SIGKILL"),
        (Evidence(exit_code=0), "library_error", "exit code 0"),
        (Evidence(exit_code=None), "library_error", "without a word"),
        (Evidence(exit_code=-99999), "library_error", "-99999"),
        (Evidence(exit_code=1, log_tail="exitcode : -99999"), "library_error", "exit code 1"),
    ],
)
def test_signals_and_silence(evidence: Evidence, reason: str, message: str) -> None:
    verdict = classify(evidence)
    assert verdict.reason == reason
    assert message in verdict.message


def test_ordinary_lines_of_the_log_prove_nothing() -> None:
    log = "loss is not nan\nsaving, no space left on device is not expected\n" + TRACEBACK % "ValueError: odd"
    assert classify(Evidence(exit_code=1, log_tail=log)).reason == "library_error"


def test_secrets_in_an_error_are_masked() -> None:
    token = "hf_" + "a" * 34
    verdict = classify(Evidence(exceptions=[{"kind": "OSError", "message": f"401 Client Error for token={token}"}]))
    assert token not in verdict.message
    assert verdict.reason == "hub"


def test_endless_messages_are_cut() -> None:
    assert len(classify(Evidence(exceptions=[{"kind": "E", "message": "x" * 10**6}])).message) == 500


@pytest.mark.parametrize("words", [{}, {"kind": None, "message": 3}, {"reason": ["a"]}])
def test_odd_last_words_are_no_trouble(words: dict[str, object]) -> None:
    assert classify(Evidence(exceptions=[words])).reason


def test_text_of_no_known_reason() -> None:
    assert reason_of("all is well") is None


def test_oom_kills_are_counted() -> None:
    assert count_oom_kills() >= 0


def test_the_final_event_decides_whatever_the_exit_code() -> None:
    crashed = Evidence(exit_code=1, log_tail=TRACEBACK % "ValueError: at exit")
    assert outcome_of(RunFinished(), crashed, Rung.RUNNING, None).state is State.FINISHED
    stopped = outcome_of(RunStopped(reason="requested"), crashed, Rung.TERMINATED, StopOrder())
    assert (stopped.state, stopped.reason) == (State.STOPPED, "requested")
    failed = outcome_of(RunFailed(message="CUDA out of memory"), crashed, Rung.RUNNING, None)
    assert (failed.state, failed.reason) == (State.FAILED, "gpu_out_of_memory")
    assert failed.remedy


def test_a_run_that_was_pressed_is_stopped_and_one_that_died_while_asked_has_failed() -> None:
    died = Evidence(exit_code=1, log_tail=TRACEBACK % "OSError: [Errno 28] No space left on device")
    assert outcome_of(None, died, Rung.TERMINATED, StopOrder()).state is State.STOPPED
    while_saving = outcome_of(None, died, Rung.ASKED, StopOrder())
    assert (while_saving.state, while_saving.reason) == (State.FAILED, "disk_full")
    # leftovers are terminated after a failure as well; nobody had asked for that
    assert outcome_of(None, died, Rung.TERMINATED, None).state is State.FAILED


def test_the_last_words_of_all_ranks_beat_the_echo_in_the_final_event() -> None:
    echo = {"kind": "RuntimeError", "message": "Connection closed by peer", "reason": "library_error", "t": 1.0}
    cause = {"kind": "OutOfMemoryError", "message": "CUDA out of memory", "reason": "gpu_out_of_memory", "t": 2.0}
    outcome = outcome_of(
        RunFailed(reason="library_error", message="Connection closed by peer"),
        Evidence(exit_code=1, exceptions=[echo, cause]),
        Rung.RUNNING,
        None,
    )
    assert (outcome.reason, outcome.message) == ("gpu_out_of_memory", "CUDA out of memory")


def test_of_several_causes_the_first_in_time_counts() -> None:
    late = {"kind": "OSError", "message": "[Errno 28] No space left on device", "t": 20.0}
    early = {"kind": "MemoryError", "message": "", "t": 10.0}
    assert classify(Evidence(exceptions=[late, early])).reason == "out_of_memory"


def test_a_vague_reason_of_the_trainer_is_made_precise() -> None:
    words = {"kind": "RuntimeError", "message": "NCCL error: unhandled", "reason": "library_error", "remedy": "See."}
    verdict = classify(Evidence(exceptions=[words]))
    assert (verdict.reason, verdict.remedy) == ("nccl", REMEDIES["nccl"])


TORCHRUN = """\
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
Failures:
[1]:
  exitcode  : -15 (pid: 32512)  (SIGTERM)
  traceback : Signal 15 (SIGTERM) received by PID 32512
Root Cause (first observed failure):
[0]:
  exitcode  : %s
"""
ECHO = {"kind": "RuntimeError", "message": "RuntimeError: [gloo] Connection reset by peer", "reason": "library_error"}


def test_behind_a_rank_that_lost_its_peer_stands_the_signal_that_killed_the_peer() -> None:
    killed = TORCHRUN % "-9 (pid: 32513)  (SIGKILL)\n  traceback : Signal 9 (SIGKILL) received by PID 32513"
    verdict = classify(Evidence(exit_code=1, exceptions=[ECHO], log_tail=killed))
    assert (verdict.reason, verdict.message) == ("killed", "ended by the signal SIGKILL")
    assert classify(Evidence(exit_code=1, exceptions=[ECHO], num_oom_kills=1)).reason == "out_of_memory"
    assert classify(Evidence(exit_code=1, exceptions=[ECHO])).reason == "nccl"


def test_the_signals_by_which_the_launcher_cleans_up_hide_no_error() -> None:
    words = {"kind": "ValueError", "message": "ValueError: odd", "reason": "library_error"}
    aborted = TORCHRUN % "1 (pid: 32513)" + "terminate called without an active exception\n  exitcode : -6 (pid: 3)"
    verdict = classify(Evidence(exit_code=1, exceptions=[ECHO, words], log_tail=aborted))
    assert verdict.message == "ValueError: odd"
    verdict = classify(Evidence(exit_code=1, log_tail=TRACEBACK % "ValueError: odd" + TORCHRUN % "1 (pid: 32513)"))
    assert verdict.reason == "library_error"
    assert "SIGTERM" not in verdict.message


def test_ranks_that_save_when_their_launcher_dies_do_not_make_it_a_stop() -> None:
    stopped = RunStopped(step=5, reason="asked to stop by SIGTERM")
    outcome = outcome_of(stopped, Evidence(exit_code=-9), Rung.TERMINATED, None)
    assert (outcome.state, outcome.reason) == (State.FAILED, "killed")
    preempted = outcome_of(stopped, Evidence(exit_code=0), Rung.RUNNING, None)
    assert (preempted.reason, preempted.remedy[:15]) == ("preempted", "It saved first.")
    early = outcome_of(replace(stopped, step=0), Evidence(exit_code=0), Rung.RUNNING, None)
    assert early.remedy == "It had made no step. Start it again, here or elsewhere."
    assert outcome_of(stopped, Evidence(exit_code=-9), Rung.TERMINATED, StopOrder(by="me")).state is State.STOPPED


def test_remedies_name_settings_that_exist() -> None:
    named = set(re.findall(r"\b(?:training|data|launch|model|lora)\.[a-z_]+", " ".join(REMEDIES.values())))
    assert "training.activation_checkpointing" in named
    assert named <= set(catalogue())
