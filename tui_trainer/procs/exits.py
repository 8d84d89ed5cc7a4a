"""Why a run ended without saying so itself: exit code, last words of the ranks, kernel and log made into one reason.

`accelerate launch` returns 1 for whatever happened, so that the cause has to be pieced together. Used by `supervisor`.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_trainer.redact import redact
from tui_trainer.runs.files import number

_MAX_MESSAGE = 500

REMEDIES: dict[str, str] = {
    "out_of_memory": "The machine ran out of memory and the kernel killed the run. Use fewer "
    "training.dataloader_num_workers, a smaller model or batch, or a machine with more memory.",
    "gpu_out_of_memory": "Halve training.per_device_train_batch_size and double training.gradient_accumulation_steps, "
    "lower data.max_length, or set training.activation_checkpointing = true.",
    "shared_memory": "Set training.dataloader_num_workers = 0, or give the container more shared memory "
    "(--shm-size, --ipc=host).",
    "nan": "Lower training.learning_rate or raise training.warmup_steps, use bf16 rather than fp16, and look at the "
    "rows of the step at which it happened.",
    "disk_full": "Free space on the disk of the run or of the caches, or keep fewer checkpoints with "
    "training.save_total_limit; then resume from the last checkpoint.",
    "data": "Look at the row that is named, and run `tui-trainer check` on the configuration.",
    "port": "Another process uses that port. Set launch.main_process_port = 0 to take a free one.",
    "nccl": "The processes lost each other. Look for the rank that failed first in the log; set NCCL_DEBUG=INFO in "
    "launch.env to see more; raise training.ddp_timeout if one rank is merely slow.",
    "gpu_error": "The GPU or its driver failed. Set CUDA_LAUNCH_BLOCKING=1 in launch.env to see where, and look at "
    "`nvidia-smi` and the kernel's log for Xid errors.",
    "hub": "Check the name, the network and your access (`hf auth login`), or give a folder on this machine.",
    "package": "Install the package that is missing, into the environment that runs tui-trainer.",
    "killed": "Something outside the run sent it this signal: a scheduler, another user, a shutdown. Resume it from "
    "its last checkpoint.",
    "configuration": "Mend the configuration and train again.",
    "machine": "Run `tui-trainer doctor`.",
    "library_error": "The end of the log says more: `tui-trainer runs log`.",
}
"""What to do about each reason, where whoever found it does not say more; the trainer may give further ones."""

_PATTERNS: dict[str, re.Pattern[str]] = {
    reason: re.compile("|".join(alternatives), re.IGNORECASE)
    for reason, alternatives in {
        "gpu_out_of_memory": (
            r"\b(cuda|hip|xpu|mps|npu)\b.{0,40}out of memory",
            r"\bOutOfMemoryError",
            r"CUBLAS_STATUS_ALLOC_FAILED",
        ),
        "shared_memory": (
            r"out of shared memory",
            r"insufficient shared memory",
            r"\bshm\b.*(no space|size)",
            r"signal: Bus error",
        ),
        "disk_full": (
            r"no space left on device|\benospc\b|errno 28\b",
            r"disk quota exceeded|errno 122\b",
            r"unexpected pos \d+ vs \d+|PytorchStreamWriter failed",
        ),
        "out_of_memory": (
            r"can('t|not) allocate memory|unable to allocate .* for an array",
            r"\bMemoryError|bad_alloc",
            r"oom[-_ ]kill|killed by signal: Killed",
        ),
        "port": (r"address already in use|\beaddrinuse\b|errno 98\b",),
        "nan": (
            r"\b(nan|inf|infinite)\b.{0,30}\bloss",
            r"\bloss\b.{0,40}\b(nan|inf|infinite|not finite)\b",
            r"FloatingPointError",
        ),
        "nccl": (
            r"\bnccl|\bgloo\b|rendezvous|TCPStore",
            r"Dist(Backend|Network|Store)Error",
            r"watchdog|connection (closed|reset) by peer",
        ),
        "gpu_error": (
            r"\b(cuda|hip|cublas|cudnn|nvml)\b.{0,20}error|\bXid\b",
            r"device-side assert|illegal memory access|no kernel image",
            r"No CUDA GPUs are available|NVIDIA driver on your system is too old|unspecified launch failure",
            r"CUBLAS_STATUS|CUDNN_STATUS",
        ),
        "package": (r"\b(ModuleNotFoundError|ImportError|PackageNotFoundError)\b",),
        "hub": (
            r"(Gated|Disabled)RepoError|(Repository|Revision|Entry|LocalEntry)NotFoundError",
            r"OfflineModeIsEnabled|HfHubHTTPError|(401|403|404) Client Error",
            r"MaxRetryError|couldn't connect to 'https?://",
        ),
        "data": (
            r"\b(DataError|DatasetGenerationError|DataFilesNotFoundError)\b",
            r"\b(TemplateError|TemplateSyntaxError|UndefinedError)\b",
            r"\b(UnicodeDecodeError|JSONDecodeError|ArrowInvalid)\b",
        ),
    }.items()
}
"""How errors speak of a reason; the first that matches counts."""
_ERROR_LINE = re.compile(
    r"^(?:\[?(?:rank|default)\s?\d+\]?:\s*)?"
    r"((?:[A-Za-z_]\w*\.)*_?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Failure|Killed)\b.*"
    r"|terminate called.*|\s+what\(\):.*|Killed|Bus error.*|Segmentation fault.*|slurmstepd: error.*|.*\boom[-_]kill.*)"
)
_SIGNAL = re.compile(r"exitcode\s*:\s*-(\d+)|died with <Signals\.(\w+): \d+>|Signal (\d+) \(SIG\w+\) received by PID")
_VAGUE = {"library_error": 1, "nccl": 2}
"""Reasons behind which another one may stand, the vaguest last."""
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)


@dataclass(frozen=True)
class Evidence:
    """What is left when the processes of a run are gone.

    Attributes:
        exit_code: of the command, negative for a signal; None if it was not ours to wait for.
        exceptions: the last words of the ranks, by rank: kind, message, reason, remedy.
        num_oom_kills: processes the kernel killed in our control group for want of memory while the run went on.
        log_tail: end of the log of this attempt.
    """

    exit_code: int | None = None
    exceptions: Sequence[Mapping[str, Any]] = ()
    num_oom_kills: int = 0
    log_tail: str = ""


@dataclass(frozen=True)
class Verdict:
    """Why a run failed: a code of `REMEDIES` (or one the trainer gave), a sentence, what to do."""

    reason: str
    message: str
    remedy: str


def classify(evidence: Evidence) -> Verdict:
    """The most telling reason for a failure, from the surest evidence to the vaguest."""
    spoken = [(_from_exception(words), number(words.get("t")) or 0.0) for words in evidence.exceptions]
    # of the ranks that spoke the first counts, but one that lost its peers only echoes the one that failed before it
    said = min(spoken, key=lambda found: (_VAGUE.get(found[0].reason, 0), found[1]))[0] if spoken else None
    if said is not None and said.reason not in _VAGUE:
        return said
    if evidence.num_oom_kills:
        return _verdict("out_of_memory", "the kernel killed a process of the run because memory ran out")
    if said is not None and said.reason == "library_error":
        return said
    return _from_log(evidence, said)


def _from_log(evidence: Evidence, echo: Verdict | None) -> Verdict:
    """The reason in the log or in a signal; what a rank said of its lost peers counts where neither knows more."""
    lines = [match[1].strip() for line in evidence.log_tail.splitlines() if (match := _ERROR_LINE.match(line))]
    found = [_verdict(reason, line) for line in reversed(lines) if (reason := reason_of(line))]
    signals = list(_signals_of(evidence))
    # the launcher itself terminates the ranks that are left, so that SIGTERM tells the least
    sure = [verdict for verdict in found if verdict.reason not in _VAGUE]
    sure += [_from_signal(number) for number in signals if number != signal.SIGTERM]
    rest = [_verdict("library_error", lines[-1])] if lines else []
    rest += [_from_signal(number) for number in signals]
    silence = _verdict("library_error", f"ended with exit code {evidence.exit_code} and without a word")
    return [*sure, *([echo] if echo else []), *found, *rest, silence][0]


def _from_signal(number: signal.Signals) -> Verdict:
    if number in _CRASHES:
        return _verdict("library_error", f"a native library crashed ({number.name})")
    return _verdict("killed", f"ended by the signal {number.name}")


def reason_of(text: str) -> str | None:
    """The reason that the text of an error speaks of; None if it could be anything."""
    return next((reason for reason, pattern in _PATTERNS.items() if pattern.search(text)), None)


def _from_exception(words: Mapping[str, Any]) -> Verdict:
    kind, message = str(words.get("kind") or ""), str(words.get("message") or "")
    text = f"{kind}: {message}" if kind and message else kind or message
    given = str(words.get("reason") or "")
    if given and given not in _VAGUE:
        return _verdict(given, message or kind, str(words.get("remedy") or ""))
    return _verdict(reason_of(text) or given or "library_error", message or kind)


def _verdict(reason: str, message: str, remedy: str = "") -> Verdict:
    return Verdict(reason, redact(message)[:_MAX_MESSAGE], redact(remedy) or REMEDIES.get(reason, ""))


def _signals_of(evidence: Evidence) -> Iterator[signal.Signals]:
    """The signals that ended the command and, as far as the log tells, its ranks; the root cause comes first."""
    numbers = [str(-evidence.exit_code)] if evidence.exit_code is not None and evidence.exit_code < 0 else []
    # launchers write the root cause last
    told = (next(filter(None, match.groups())) for match in _SIGNAL.finditer(evidence.log_tail))
    for text in (*numbers, *reversed(list(told))):
        if text in signal.Signals.__members__:
            yield signal.Signals[text]
        elif text.isdigit() and int(text) in set(signal.Signals):
            yield signal.Signals(int(text))


def count_oom_kills() -> int:
    """Processes killed for want of memory so far: in our control group if it counts them, else on the whole machine."""
    for path in (*_memory_counters(), Path("/proc/vmstat")):
        try:
            counters = dict(line.split(maxsplit=1) for line in path.read_text("ascii").splitlines())
            return int(counters["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return 0


def _memory_counters() -> Iterator[Path]:
    """The files that count for our control group, under version 1 and 2 of control groups."""
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text("utf-8").splitlines()]
    except OSError:
        return
    for _, controllers, group in groups:
        if "memory" in controllers.split(","):
            yield Path(f"/sys/fs/cgroup/memory{group}/memory.oom_control")
        elif not controllers:
            yield Path(f"/sys/fs/cgroup{group}/memory.events")
