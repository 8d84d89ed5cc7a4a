"""What is wrong with a configuration although each value by itself is permitted; `check`, `train` and the Args screen.

The rules are in `rules`, a file for each concern.
"""

from __future__ import annotations

from tui_trainer.config.rules import data, loop, model, packages, parallel, precision, resources, sampling, secrets
from tui_trainer.config.rules.facts import Facts, Rule
from tui_trainer.config.rules.sampling import check_sampling
from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import Problem

__all__ = ["RULES", "Facts", "check_config", "check_sampling"]

RULES: tuple[Rule, ...] = (
    *model.RULES,
    *data.RULES,
    *loop.RULES,
    *precision.RULES,
    *packages.RULES,
    *parallel.RULES,
    *resources.RULES,
    *sampling.RULES,
    *secrets.RULES,
)


def check_config(config: RunConfig, facts: Facts) -> list[Problem]:
    """The problems of a configuration on a machine, errors first.

    Args:
        config: the run's configuration.
        facts: what is known of machine, data and model.
    """
    problems = [problem for rule in RULES for problem in rule(config, facts)]
    return sorted(problems, key=lambda problem: problem.severity != "error")
