"""What a run measures of itself: loss on held-out rows, exact match of greedy answers, answers to fixed prompts.

None of it touches the random numbers of the training. Called by `engine.trainer.trainer` at each evaluation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tui_trainer.engine.trainer.mailbox import Group


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Give all random number generators the state back that they had before, so that measuring changes no training."""
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(array)


def eval_batches(num_rows: int, batch_size: int, group: Group) -> tuple[list[list[int]], int]:
    """The rows that one rank evaluates, batch by batch.

    Every rank gets the same number of batches, since sharded models need all ranks in every forward pass. Where the
    batches do not come out even, the ranks without one repeat another's last.

    Returns:
        The batches, and how many of them count; the rest, at most one, is repeated.
    """
    batches = [list(range(start, min(start + batch_size, num_rows))) for start in range(0, num_rows, batch_size)]
    own = batches[group.rank :: group.size]
    num_rounds = -(-len(batches) // group.size)
    return own + batches[-1:] * (num_rounds - len(own)), len(own)


@torch.no_grad()
def greedy_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    stop_token_ids: Sequence[int],
    max_tokens: int,
    batch_size: int,
) -> list[str]:
    """The most probable answer to each prompt, several prompts at a time.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        prompts: token ids.
        stop_token_ids: ids that end an answer.
        max_tokens: longest answer.
        batch_size: prompts computed at once.

    Returns:
        The answers as text without special tokens, in the order of the prompts.
    """
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop_token_ids[0]
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=max_tokens,
        eos_token_id=list(stop_token_ids),
        pad_token_id=pad_id,
        use_cache=True,
    )
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        inputs = _left_padded([prompts[index] for index in chosen], pad_id, model.device)
        output = model.generate(**inputs, generation_config=settings)
        for index, ids in zip(chosen, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            answers[index] = str(tokenizer.decode(_until(ids, stop_token_ids), skip_special_tokens=True))
    return answers


def _left_padded(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> dict[str, torch.Tensor]:
    width = max(map(len, prompts))
    ids = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}


def _until(ids: list[int], stop_token_ids: Sequence[int]) -> list[int]:
    end = next((position for position, token in enumerate(ids) if token in stop_token_ids), len(ids))
    return ids[:end]


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str, system: str | None, template_kwargs: dict[str, Any]
) -> list[int]:
    """Token ids of a prompt as the chat would send it: through the chat template if there is one."""
    if not tokenizer.chat_template:
        return list(tokenizer(prompt)["input_ids"])
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    return list(
        tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False, **template_kwargs
        )
    )
