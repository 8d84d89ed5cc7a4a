"""A set of prompts asked of several models or of all checkpoints of a run: what changed, as a table over steps.

All are asked with the same knobs and seed. The models come one after the other, on the weights of the one before where
that can be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.chat.insight import check_same_tokens, weighed_reply
from tui_trainer.engine.chat.prompt_file import Item
from tui_trainer.engine.chat.question import Manner, Question
from tui_trainer.engine.chat.repetition import distinct_2, ends_in_a_loop
from tui_trainer.engine.chat.session import ChatSession
from tui_trainer.errors import CancelledError, UsageError, WorkbenchError
from tui_trainer.runs.store import find_run, list_checkpoints

_SEED = 0
_BASELINE_TOKENS = 48


@dataclass(frozen=True)
class PromptSet:
    """What is asked, and how.

    Attributes:
        items: the prompts.
        manner: how; without a seed it is 0.
    """

    items: Sequence[Item]
    manner: Manner

    def question(self, item: Item, session: ChatSession) -> Question:
        """An item as a question to a model; one without a template goes on with the text."""
        manner = self.manner
        params = {"seed": _SEED, **manner.params}
        if isinstance(item.asked, str) and session.prompter.templates.chosen(manner.template) is None:
            return Question(prompt=item.asked, params=params)
        return Question(
            item.messages(manner.system), None, params, template=manner.template, template_kwargs=manner.template_kwargs
        )


@dataclass(frozen=True)
class Baseline:
    """A model that the others are held against: their divergence from it, over its own most probable answers.

    Attributes:
        session: the model.
        replies: its answers' tokens, one for each prompt.
    """

    session: ChatSession
    replies: Sequence[Sequence[int]]

    @classmethod
    def of(cls, session: ChatSession, prompts: PromptSet, check: Callable[[], None]) -> Baseline:
        """Let a model answer all prompts greedily."""
        knobs = SamplingParams(temperature=0.0, max_tokens=_BASELINE_TOKENS)
        replies = []
        for item in prompts.items:
            check()
            ids = session.prompter.prompt_for(prompts.question(item, session)).ids
            replies.append(session.engine.generate(ids, knobs)[0].ids)
        return cls(session, replies)

    def divergence(
        self, session: ChatSession, prompts: PromptSet, number: int, check: Callable[[], None]
    ) -> float | None:
        """KL of a model from this one over the answer to a prompt, in nats a token; None if that answer is empty."""
        sides = (self.session, session)
        question = [each.prompter.prompt_for(prompts.question(prompts.items[number], each)).ids for each in sides]
        weighed = weighed_reply(self.session, session, question, self.replies[number], 0, check)
        return sum(each.kl or 0.0 for each in weighed) / len(weighed) if weighed else None


def expanded(references: Sequence[str]) -> list[str]:
    """The models that are meant: a run alone means all its checkpoints.

    Raises:
        UsageError: none is named, or a run has no checkpoint yet.
    """
    if not references:
        raise UsageError("no model is named", remedy="Name models, checkpoints, or a run for all its checkpoints.")
    return [each for reference in references for each in _expanded(reference)]


def _expanded(reference: str) -> list[str]:
    try:
        layout = find_run(reference)
    except UsageError:
        return [reference]
    steps = [checkpoint.step for checkpoint in list_checkpoints(layout)]
    if not steps:
        raise UsageError("the run has no checkpoint yet", where=reference, remedy="Wait for the first one.")
    return [f"{reference}@{step}" for step in steps]


def ask_all(
    prompts: PromptSet,
    sessions: Iterator[tuple[str, ChatSession | WorkbenchError]],
    baseline: Baseline | None,
    check: Callable[[], None],
    total: int,
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Ask every model every prompt.

    Args:
        prompts: what is asked.
        sessions: name and session of each model in turn, or why there is none; a session is of no more use once the
            next is taken.
        baseline: what they are held against.
        check: called between prompts; what it raises ends the work.
        total: how many models there are.

    Yields:
        {"row": …} and {"task", "done", "total"}.

    Returns:
        {"rows": [{"model", "step", "prompt", "text", "num_tokens", "finish_reason", "mean_logprob", "distinct_2",
        "repeats", "exact", "regex", "kl"}], "table": one line a model}.
    """
    rows: list[dict[str, Any]] = []
    table: list[dict[str, Any]] = []
    for done, (name, session) in enumerate(sessions):
        if isinstance(session, WorkbenchError):
            table.append({"model": name, "step": None, "error": str(session)})
            continue
        if baseline is not None:
            check_same_tokens(baseline.session, session)
        own = []
        for number in range(len(prompts.items)):
            check()
            row = _row(name, session, prompts, number)
            row["kl"] = None if baseline is None else baseline.divergence(session, prompts, number, check)
            own.append(row)
            yield {"row": row}
            yield {
                "task": f"asking {name}",
                "done": done * len(prompts.items) + number + 1,
                "total": total * len(prompts.items),
            }
        rows += own
        table.append(_line(name, session, own))
    return {"rows": rows, "table": table}


def _row(name: str, session: ChatSession, prompts: PromptSet, number: int) -> dict[str, Any]:
    item = prompts.items[number]
    answer = session.answer(prompts.question(item, session))
    while True:
        try:
            next(answer)
        except StopIteration as end:
            candidate = end.value["candidates"][0]
            break
    ids, text = candidate["ids"], candidate["text"]
    return {
        "model": name,
        "step": session.loaded.source.step,
        "prompt": number,
        "text": text,
        "num_tokens": len(ids),
        "finish_reason": candidate["finish_reason"],
        "mean_logprob": candidate["cumulative_logprob"] / len(ids) if ids else None,
        "distinct_2": distinct_2(ids),
        "repeats": ends_in_a_loop(ids),
        "exact": None if item.exact is None else candidate["answer"].strip() == item.exact.strip(),
        "regex": None if item.regex is None else re.search(item.regex, candidate["answer"]) is not None,
    }


def _line(name: str, session: ChatSession, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of a model's answers; None where no prompt says anything."""
    return {
        "model": name,
        "step": session.loaded.source.step,
        "num_prompts": len(rows),
        "mean_tokens": _mean(rows, "num_tokens"),
        "stopped": sum(row["finish_reason"] == "stop" for row in rows) / len(rows) if rows else None,
        "repeating": _mean(rows, "repeats"),
        "error": None,
        **{key: _mean(rows, key) for key in ("exact", "regex", "mean_logprob", "distinct_2", "kl")},
    }


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [float(row[key]) for row in rows if row[key] is not None]
    return sum(values) / len(values) if values else None


def one_after_the_other(
    names: Sequence[str], opened: Callable[[str], ChatSession]
) -> Iterator[tuple[str, ChatSession | WorkbenchError]]:
    """Each model with its session, or why there is none; `opened` may put it into the session of the one before."""
    for name in names:
        try:
            session = opened(name)
        except CancelledError:
            raise
        except WorkbenchError as error:
            yield name, error
            continue
        yield name, session
