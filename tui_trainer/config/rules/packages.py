"""Rules for packages that are not there: said before a run starts, not when it has loaded everything else."""

from __future__ import annotations

from collections.abc import Iterator

from tui_trainer.config.packages import needed_packages
from tui_trainer.config.rules.facts import Facts, error
from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import Problem


def packages(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether everything that is asked for is installed."""
    if facts.packages is None:
        return
    for key, what, names in needed_packages(config):
        if not facts.packages & set(names):
            needed = " or ".join(names)
            yield error(key, f"{what} needs the package {needed}", f"`pip install {names[0]}`, or leave it out")


RULES = (packages,)
