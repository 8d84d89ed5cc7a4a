"""What a set of prompts says about models: a line a model from its replies; used while they still come in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measured:
    """One model over all prompts that it has answered; shares are from 0 to 1, None where nothing was asked.

    Attributes:
        model: its reference.
        step: its step, if it is a checkpoint.
        num_prompts: prompts answered.
        tokens: mean length.
        stopped: share that ended by themselves.
        repeating: share that repeats itself.
        exact: share that is exactly what was expected.
        regex: share that fits the expression.
        logprob: mean log-probability of a token.
        distinct_2: mean share of different pairs of words.
        kl: mean KL divergence from the baseline.
    """

    model: str
    step: int | None
    num_prompts: int
    tokens: float | None
    stopped: float | None
    repeating: float | None
    exact: float | None
    regex: float | None
    logprob: float | None
    distinct_2: float | None
    kl: float | None


def measure(rows: Iterable[Mapping[str, Any]]) -> list[Measured]:
    """A line a model, in the order in which they were asked."""
    by_model: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_model.setdefault(str(row.get("model")), []).append(row)
    return [_measured(model, own) for model, own in by_model.items()]


def _measured(model: str, rows: Sequence[Mapping[str, Any]]) -> Measured:
    return Measured(
        model,
        rows[0].get("step"),
        len(rows),
        _mean(rows, "num_tokens"),
        _mean([{"stopped": row.get("finish_reason") == "stop"} for row in rows], "stopped"),
        _mean(rows, "repeats"),
        _mean(rows, "exact"),
        _mean(rows, "regex"),
        _mean(rows, "mean_logprob"),
        _mean(rows, "distinct_2"),
        _mean(rows, "kl"),
    )


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [float(row[name]) for row in rows if isinstance(row.get(name), (int, float))]
    return sum(values) / len(values) if values else None
