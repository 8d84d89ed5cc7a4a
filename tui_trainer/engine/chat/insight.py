"""Looking into replies: how probable each token was, what else could have stood there, how two models differ.

Used by the chat worker for its methods `tokens`, `alternatives` and `score`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.chat.prompt_file import Item
from tui_trainer.engine.chat.question import Manner, Question
from tui_trainer.engine.chat.session import ChatSession
from tui_trainer.engine.generate.candidates import TokenLogprob
from tui_trainer.engine.generate.weighing import Party, Weighed, mean_logprob, perplexity, weigh
from tui_trainer.errors import UsageError

Check = Callable[[], None]


def reply_document(
    a: ChatSession, b: ChatSession | None, question: Question, reply: Sequence[int] | str, num_top: int, check: Check
) -> dict[str, Any]:
    """The result of the worker's `tokens`: each token of a reply under one or two models.

    Args:
        a: the first model.
        b: the second, or None.
        question: what the reply answers.
        reply: its tokens, or its text.
        num_top: how many of the most probable tokens to list in each place.
        check: called between chunks; what it raises ends the work.

    Raises:
        UsageError: the reply is empty, or the models' tokens are not the same.
        WorkbenchError: the question cannot be asked.
    """
    check_same_tokens(a, b)
    prompts = [session.prompter.prompt_for(question).ids for session in (a, b) if session is not None]
    ids = tuple(_ids_of(a, question, reply))
    weighed = weighed_reply(a, b, prompts, ids, num_top, check)
    tokens = [
        a.documents.token(token) | {
            "a": _side(a, each.a),
            "b": None if each.b is None else _side(a, each.b),
            "difference": each.difference,
            "kl": each.kl,
        }
        for token, each in zip(ids, weighed, strict=True)
    ]  # fmt: skip
    return {"prompt_tokens": len(prompts[0]), "tokens": tokens, **summary(weighed)}


def weighed_reply(
    a: ChatSession,
    b: ChatSession | None,
    prompts: Sequence[Sequence[int]],
    ids: Sequence[int],
    num_top: int,
    check: Check,
) -> list[Weighed]:
    """The tokens of a reply under one or two models, each after its own prompt.

    Raises:
        UsageError: prompt and reply do not fit a model.
    """
    parties = []
    for session, prompt in zip((a, b), prompts, strict=False):
        assert session is not None
        session.engine.check_fits([*prompt, *ids])
        parties.append(Party(session.engine.runner, prompt))
    with a.guarded(len(prompts[0]) + len(ids)):
        return weigh(parties[0], parties[1] if len(parties) > 1 else None, ids, num_top=num_top, check=check)


def summary(weighed: Sequence[Weighed]) -> dict[str, Any]:
    """Means over tokens: {"a": {"mean_logprob", "perplexity"}, "b": the same or None, "mean_kl"}."""
    under_b = [each.b for each in weighed if each.b is not None]
    divergences = [each.kl for each in weighed if each.kl is not None]
    return {
        "a": _means([each.a for each in weighed]),
        "b": _means(under_b) if under_b else None,
        "mean_kl": sum(divergences) / len(divergences) if divergences else None,
    }


def alternatives_document(
    a: ChatSession, b: ChatSession | None, question: Question, reply_ids: Sequence[int], position: int, num_top: int
) -> dict[str, Any]:
    """The result of the worker's `alternatives`: what could stand at a position of a reply.

    Args:
        a: the first model.
        b: the second, or None.
        question: what the reply answers, with the knobs.
        reply_ids: the reply.
        position: which of its tokens; one behind the last asks for what could follow.
        num_top: how many to list; the chosen one is always among them.

    Raises:
        UsageError: there is no such position.
        WorkbenchError: the question cannot be asked.
    """
    check_same_tokens(a, b)
    if not 0 <= position <= len(reply_ids):
        raise UsageError(f"the reply has {len(reply_ids)} tokens and none at position {position}")
    chosen = reply_ids[position] if position < len(reply_ids) else None
    before = list(reply_ids[:position])
    sides = [_alternatives(session, question, before, chosen, num_top) for session in (a, b) if session is not None]
    return {"position": position, "chosen": chosen, "a": sides[0], "b": sides[1] if len(sides) > 1 else None}


def _alternatives(
    session: ChatSession, question: Question, before: Sequence[int], chosen: int | None, num_top: int
) -> list[dict[str, Any]]:
    prompt = session.prompter.prompt_for(question)
    params = session.resolve(question.params).params
    with session.guarded(len(prompt.ids) + len(before)):
        logits, drawn = session.engine.next_token(prompt.ids, before, params)
    logprobs = logits.log_softmax(-1)
    best = logits.topk(min(num_top, len(logits))).indices.tolist()
    if chosen is not None and chosen not in best:
        best.append(chosen)
    index = torch.tensor(best, device=logits.device)
    ranks = [int((logits > logits[token]).sum()) + 1 for token in best]
    values, processed = logprobs[index].tolist(), drawn[index].tolist()
    return [
        {
            **session.documents.token(token),
            "logprob": value,
            "probability": math.exp(value),
            "rank": rank,
            "processed": share,
        }
        for token, value, rank, share in zip(best, values, ranks, processed, strict=True)
    ]


def check_same_tokens(a: ChatSession, b: ChatSession | None) -> None:
    """See that two models can be compared token by token.

    Raises:
        UsageError: their tokenizers differ.
    """
    if b is None or a is b:
        return
    vocabularies = [session.loaded.tokenizer.get_vocab() for session in (a, b)]
    if vocabularies[0] != vocabularies[1]:
        raise UsageError(
            f"{a.name} and {b.name} have different tokenizers, so their tokens cannot be compared one by one",
            remedy="Compare the texts of their answers, or choose two models of one family.",
        )


def _ids_of(session: ChatSession, question: Question, reply: Sequence[int] | str) -> Sequence[int]:
    ids = session.prompter.reply_ids(question, reply) if isinstance(reply, str) else reply
    if not ids:
        raise UsageError("the reply is empty: there is no token to look at")
    return ids


def _side(session: ChatSession, token: TokenLogprob) -> dict[str, Any]:
    return {"logprob": token.logprob, "rank": token.rank, "top": session.documents.top(token)}


def _means(tokens: Sequence[TokenLogprob]) -> Mapping[str, float | None]:
    mean = mean_logprob(tokens)
    return {"mean_logprob": mean, "perplexity": perplexity(mean)}


def score_document(
    a: ChatSession,
    b: ChatSession | None,
    items: Sequence[Item | str],
    manner: Manner,
    max_tokens: int,
    check: Check,
) -> dict[str, Any]:
    """The result of the worker's `score`: perplexities over a set, and how far the models are apart.

    Args:
        a: the first model.
        b: the second, or None.
        items: plain texts, or prompts with the reply to be judged; without one it is A's most probable answer.
        manner: how prompts are asked.
        max_tokens: longest such answer.
        check: called between texts; what it raises ends the work.

    Raises:
        UsageError: there is nothing to judge, or the models' tokens are not the same.
        WorkbenchError: a prompt cannot be asked.
    """
    check_same_tokens(a, b)
    sessions = [session for session in (a, b) if session is not None]
    rows, everything = [], []
    for item in items:
        check()
        prompts, ids, text = _judged(sessions, item, manner, max_tokens)
        weighed = weighed_reply(a, b, prompts, ids, 0, check) if ids else []
        means = summary(weighed)
        rows.append(
            {
                "text": text,
                "num_tokens": len(ids),
                "a": means["a"]["perplexity"],
                "b": means["b"]["perplexity"] if means["b"] else None,
                "kl": means["mean_kl"],
            }
        )
        everything += weighed
    if not everything:
        raise UsageError("there is no text with a token to judge", remedy="Give texts or prompts.")
    means = summary(everything)
    return {
        "rows": rows,
        "a": _with_bits(means["a"]),
        "b": _with_bits(means["b"]) if means["b"] else None,
        "kl": means["mean_kl"],
        "num_tokens": len(everything),
    }


def _judged(
    sessions: Sequence[ChatSession], item: Item | str, manner: Manner, max_tokens: int
) -> tuple[list[Sequence[int]], Sequence[int], str]:
    """What stands before the judged tokens for each model, those tokens, and what the row is called."""
    if isinstance(item, str):
        ids = sessions[0].prompter.from_text(item).ids
        return [ids[:1]] * len(sessions), ids[1:], item
    question = Question(item.messages(manner.system), template=manner.template, template_kwargs=manner.template_kwargs)
    prompts = [session.prompter.prompt_for(question).ids for session in sessions]
    if item.reply is not None:
        return [*prompts], sessions[0].prompter.reply_ids(question, item.reply), item.name
    knobs = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    return [*prompts], sessions[0].engine.generate(prompts[0], knobs)[0].ids, item.name


def _with_bits(means: Mapping[str, float | None]) -> dict[str, float | None]:
    mean = means["mean_logprob"]
    return {"perplexity": means["perplexity"], "bits_per_token": None if mean is None else -mean / math.log(2)}
