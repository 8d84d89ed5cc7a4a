"""`tui-trainer check`: whether a configuration would run here: fields, data, memory, disk; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tui_trainer.cli.arguments import JsonOption, SetOption
from tui_trainer.cli.output import paper, print_json, status_report, talk
from tui_trainer.errors import ConfigurationError, ExitCode, Problem, WorkbenchError

if TYPE_CHECKING:
    from tui_trainer.config.checks import Facts
    from tui_trainer.config.schema import RunConfig
    from tui_trainer.config.shape import ModelShape
    from tui_trainer.engine.report import Report

T = TypeVar("T")

VERSION = 1


def check(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or the name of a preset.")],
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check a configuration, its data, memory and disk, without training.

    Exit code 4: it would train, but only after a yes to what is lost or dropped of the data (`train --force`).
    """
    from tui_trainer.config.load import load_config

    resolved = load_config(config, assignments or ())
    with talk().status("checking") as status:
        findings = _check(resolved.config, status_report(status))
    if as_json:
        print_json(findings.to_dict())
    else:
        from tui_trainer.cli.check_text import show_findings

        show_findings(paper(), findings.to_dict())
    return findings.exit_code


@dataclass
class Findings:
    """What was found out.

    Attributes:
        problems: of the configuration on this machine with this data.
        errors: what kept data or model from being looked at.
        data: the preview's document without rows.
        plan: what the run would do, in numbers.
        memory: what one process needs, in bytes, and what there is.
        disk: what checkpoints need, in bytes, and what there is.
    """

    problems: list[Problem] = field(default_factory=list)
    errors: list[WorkbenchError] = field(default_factory=list)
    data: dict[str, Any] | None = None
    plan: dict[str, Any] | None = None
    memory: dict[str, Any] | None = None
    disk: dict[str, Any] | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether configuration or data forbid a launch."""
        is_wrong = any(problem.severity == "error" for problem in self.problems)
        return is_wrong or bool(self.data and self.data["verdict"]["blocks_launch"])

    @property
    def needs_yes(self) -> list[str]:
        """The problems of the data to which `train` wants a yes."""
        return list(self.data["verdict"].get("needs_yes") or ()) if self.data else []

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        if self.is_blocked:
            return int(ExitCode.USAGE)
        if self.errors:
            return int(self.errors[0].exit_code)
        return int(ExitCode.REFUSED if self.needs_yes else ExitCode.DONE)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "version": VERSION,
            "ok": self.exit_code == ExitCode.DONE,
            "needs_yes": self.needs_yes,
            "problems": [problem.to_dict() for problem in self.problems],
            "errors": [error.to_dict() for error in self.errors],
            "data": self.data,
            "plan": self.plan,
            "memory": self.memory,
            "disk": self.disk,
        }


def _check(config: RunConfig, report: Report) -> Findings:
    from tui_trainer.config.checks import check_config
    from tui_trainer.engine.models.shape import describe_model
    from tui_trainer.procs.facts import machine_facts

    findings = Findings()
    shape = _attempt(findings, lambda: describe_model(config.model, report))
    findings.data = _attempt(findings, lambda: _look_at_data(config, report))
    verdict = findings.data["verdict"] if findings.data else {}
    facts = replace(
        machine_facts(),
        # a set of which nothing is left has its own words; no advice on batches helps there
        num_train_rows=verdict.get("num_train_rows") or None,
        longest=verdict.get("longest"),
        model_shape=shape,
    )
    findings.problems += check_config(config, facts)
    _weigh(findings, config, facts, shape)
    return findings


def _attempt(findings: Findings, task: Callable[[], T]) -> T | None:
    """What the task returns; its error goes to the findings, so that the rest is looked at too."""
    try:
        return task()
    except WorkbenchError as error:
        if isinstance(error, ConfigurationError) and error.problems:
            findings.problems += error.problems
            return None
        if str(error) not in map(str, findings.errors):
            findings.errors.append(error)
    return None


def _look_at_data(config: RunConfig, report: Report) -> dict[str, Any]:
    from tui_trainer.engine.data.preview import preview_document
    from tui_trainer.engine.data.session import DataSession

    session = DataSession(config, report=report)
    session.pipeline(report)
    document = preview_document(session, 0, 0, is_whole=True, report=report)
    del document["rows"]
    return document


def _weigh(findings: Findings, config: RunConfig, facts: Facts, shape: ModelShape | None) -> None:
    """Plan, memory and disk, as far as they can be told."""
    from tui_trainer.config.derive import plan_run
    from tui_trainer.config.launch import num_processes
    from tui_trainer.config.memory import checkpoint_bytes, estimate_memory

    processes = num_processes(config, facts.num_gpus or 0)
    plan = plan_run(config, facts.num_train_rows, processes)
    findings.plan = asdict(plan)
    if shape is None:
        return
    on_cpu = facts.is_without_gpu(config)
    available = facts.memory_bytes if on_cpu else min(facts.gpu_memory_bytes, default=None)
    estimate = estimate_memory(config, shape, processes, on_cpu=on_cpu, longest=facts.longest)
    findings.memory = {**asdict(estimate), "on_cpu": on_cpu, "available": available}
    each = checkpoint_bytes(config, shape)
    kept = plan.num_kept_checkpoints
    findings.disk = {
        "checkpoint": each,
        "num_kept_checkpoints": kept,
        "needed": None if kept is None else each * min(kept + 1, plan.num_checkpoints or kept + 1),
        "available": facts.free_disk_bytes,
    }
