"""A set of prompts as a measure: a table over a run's checkpoints, or how probable two models find the replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from tui_trainer.cli.chat_local import LocalModels, interruptible
from tui_trainer.cli.output import paper, print_json, show_task, talk
from tui_trainer.engine.chat.prompt_file import Item
from tui_trainer.errors import CancelledError, ExitCode, UsageError
from tui_trainer.runs.choosing import chosen_checkpoints
from tui_trainer.runs.store import find_run, list_checkpoints, split_checkpoint
from tui_trainer.text import safe_line
from tui_trainer.tui.chat.asking import Manner
from tui_trainer.tui.chat.measures import Measured, measure
from tui_trainer.tui.feeds.dataset import progress_text
from tui_trainer.tui.format import metric, share

VERSION = 1


def checkpoints_of(model: str, which: str) -> list[str]:
    """The references that `--checkpoints` names.

    Args:
        model: a run; RUN@STEP counts as its run.
        which: as `chosen_checkpoints` takes it.

    Raises:
        UsageError: there is no such run, or it has no such checkpoint.
    """
    run, _ = split_checkpoint(model)
    layout = find_run(run)
    known = [checkpoint.step for checkpoint in list_checkpoints(layout)]
    if which == "all":
        if not known:
            raise UsageError("the run has no checkpoint yet", where=layout.id, remedy="Wait for the first one.")
        return [f"{run}@{step}" for step in known]
    wanted = [part.strip() for part in which.split(",") if part.strip()]
    if not wanted:
        raise UsageError(
            "--checkpoints names none", remedy="Give all, every 2, 100-500, steps as 100,200, best, latest."
        )
    try:
        return [f"{run}@{part}" for part in chosen_checkpoints(which, known)]
    except ValueError as error:
        raise UsageError(f"the run has {error}", where=layout.id) from None


def over_checkpoints(
    models: LocalModels, references: Sequence[str], items: Sequence[Item], request: Mapping[str, Any], *, as_json: bool
) -> int:
    """Ask all prompts of all models, and print a line a model.

    Args:
        models: loads them.
        references: the models.
        items: the prompts.
        request: further parameters of the worker's `prompt_set`.
        as_json: one document with all rows and the table.
    """
    params = {"prompts": [item.to_dict() for item in items], "models": list(references), **request}
    rows: list[Mapping[str, Any]] = []
    with interruptible() as cancellation, talk().status("beginning") as status:

        def take(item: Mapping[str, Any]) -> None:
            if "row" in item:
                rows.append(item["row"])
            else:
                show_task(status, progress_text(dict(item)))

        try:
            answer = models.call("prompt_set", params, take, cancellation)
        except CancelledError:
            if not as_json and rows:
                paper().print(_measure_table(measure(rows)))
            raise
    if as_json:
        print_json({"version": VERSION, **answer})
    else:
        paper().print(_measure_table(measure(answer["rows"])))
    return int(ExitCode.DONE)


def _measure_table(lines: Sequence[Measured]) -> Table:
    table = Table(box=None)
    for name in ("model", "prompts", "tokens", "stopped", "repeating", "exact", "regex", "logprob", "distinct-2", "KL"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for line in lines:
        table.add_row(safe_line(line.model), str(line.num_prompts), *_figures(line))
    return table


def _figures(line: Measured) -> Iterator[str]:
    yield metric(line.tokens)
    yield from map(share, (line.stopped, line.repeating, line.exact, line.regex))
    yield from map(metric, (line.logprob, line.distinct_2, line.kl))


def score(models: LocalModels, items: Sequence[Item], manner: Manner, *, as_json: bool) -> int:
    """Perplexity of the replies by each loaded model, and KL of B against A."""
    params = {"prompts": [item.to_dict() for item in items], "system": manner.system, **manner.template_request}
    with interruptible() as cancellation, talk().status("scoring"):
        answer = models.call("score", params, None, cancellation)
    if as_json:
        print_json({"version": VERSION, **answer})
        return int(ExitCode.DONE)
    table = Table(box=None)
    for name in ("tokens", "perplexity A", "perplexity B", "KL"):
        table.add_column(name, justify="right")
    table.add_column("text", no_wrap=True)
    for row in answer["rows"]:
        figures = (metric(row["a"]), metric(row.get("b")), metric(row.get("kl")))
        table.add_row(str(row["num_tokens"]), *figures, safe_line(row["text"])[:60])
    whole_b = answer.get("b") or {}
    total = (metric(answer["a"]["perplexity"]), metric(whole_b.get("perplexity")), metric(answer.get("kl")))
    table.add_row(str(answer["num_tokens"]), *total, "all of it", style="bold")
    paper().print(table)
    return int(ExitCode.DONE)
