"""The files of a run directory, by name; every other module asks here for a path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHECKPOINT_PREFIX = "step-"


@dataclass(frozen=True)
class RunLayout:
    """Paths inside one run directory. Nothing is created or read."""

    root: Path

    @property
    def id(self) -> str:
        """The run's id, which is the directory's name."""
        return self.root.name

    @property
    def config(self) -> Path:
        """The whole resolved configuration; never holds a secret."""
        return self.root / "config.toml"

    @property
    def run(self) -> Path:
        """id, name, created, parent, versions, git commit, GPUs, argv."""
        return self.root / "run.json"

    @property
    def launch(self) -> Path:
        """The command and the environment additions that the supervisor starts."""
        return self.root / "launch.json"

    @property
    def status(self) -> Path:
        """State, process and heartbeat; replaced atomically by the supervisor."""
        return self.root / "status.json"

    @property
    def events(self) -> Path:
        """Append only, written by rank 0."""
        return self.root / "events.jsonl"

    @property
    def supervisor_log(self) -> Path:
        """Append only, written by the supervisor: started, signalled, exited, restarted."""
        return self.root / "supervisor.jsonl"

    @property
    def train_log(self) -> Path:
        """Standard output and error of all ranks."""
        return self.root / "train.log"

    @property
    def control(self) -> Path:
        """Commands to the running trainer, one file each."""
        return self.root / "control"

    @property
    def command_log(self) -> Path:
        """Append only, written by rank 0: the commands that changed the run, each before it took effect."""
        return self.root / "commands.jsonl"

    @property
    def ranks(self) -> Path:
        """One JSON file a rank: pid, start time, and its last words."""
        return self.root / "ranks"

    @property
    def lock(self) -> Path:
        """Locked by the supervisor while it lives."""
        return self.root / "lock"

    @property
    def stop_request(self) -> Path:
        """A durable request to end the run, read by the supervisor."""
        return self.root / "stop.json"

    @property
    def data(self) -> Path:
        """Fingerprint and counts of what was tokenised, and the seed of its order."""
        return self.root / "data.json"

    @property
    def checkpoints(self) -> Path:
        """The published checkpoints."""
        return self.root / "checkpoints"

    @property
    def superseded(self) -> Path:
        """Checkpoints of branches that the run left, one folder a branch."""
        return self.checkpoints / "superseded"

    @property
    def consent(self) -> Path:
        """Which problems of the data somebody agreed to train with."""
        return self.root / "consent.json"

    @property
    def resume_order(self) -> Path:
        """From which checkpoint the next start goes on."""
        return self.root / "resume.json"

    @property
    def latest(self) -> Path:
        """A link to the newest checkpoint."""
        return self.checkpoints / "latest"

    @property
    def best(self) -> Path:
        """Which checkpoint its evaluation found best: step, metric and value."""
        return self.checkpoints / "best.json"

    @property
    def staging(self) -> Path:
        """Where a checkpoint is written before it is published by a rename."""
        return self.root / "staging"

    @property
    def reserve(self) -> Path:
        """Space that rank 0 holds back while it lives, to be able to say that the disk is full."""
        return self.root / ".reserve"

    def rank(self, rank: int) -> Path:
        """The file of one rank."""
        return self.ranks / f"{rank}.json"

    def checkpoint(self, step: int) -> Path:
        """The checkpoint of one step."""
        return self.checkpoints / f"{CHECKPOINT_PREFIX}{step:06d}"


def checkpoint_step(path: Path) -> int | None:
    """The step of a checkpoint directory, None if it is not one."""
    digits = path.name.removeprefix(CHECKPOINT_PREFIX)
    return int(digits) if path.name.startswith(CHECKPOINT_PREFIX) and digits.isdigit() else None
