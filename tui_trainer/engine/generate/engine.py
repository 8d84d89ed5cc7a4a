"""The decode loop: one prompt, one or several answers, a step for each token.

The prompt is run once however many answers are asked for, and only as far as it differs from the last one. Answers that
have ended are taken out of the batch. Beam search is left to `transformers` (see `beams`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.generate.beams import beam_search
from tui_trainer.engine.generate.candidates import Candidate, FinishReason, TokenLogprob, TokenStep
from tui_trainer.engine.generate.detokenize import Detokenizer
from tui_trainer.engine.generate.forward.interface import Forward
from tui_trainer.engine.generate.forward.library import LibraryForward
from tui_trainer.engine.generate.knobs import is_greedy
from tui_trainer.engine.generate.logprobs import logprobs_of, score
from tui_trainer.engine.generate.restrictions import tokens_of_bad_words
from tui_trainer.engine.generate.runner import Rows, Runner
from tui_trainer.engine.generate.sampling import Sampler
from tui_trainer.engine.models.spread import whole_shape
from tui_trainer.errors import CancelledError, UsageError

_WITHOUT_CONTEXT = 4096
"""Longest answer where neither the user nor the model says."""


class Engine:
    """Answers prompts with one model.

    Args:
        model: a causal language model, or a PEFT model around one, in evaluation mode.
        tokenizer: turns its ids into text.
        stop_token_ids: tokens that end an answer, unless `ignore_eos` is set.
        context_length: most tokens of prompt and answer together, None if unknown.
        forward: how its tokens are run, if not as the library does.
        adapter: the adapter they go through, where the model has several.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        stop_token_ids: Iterable[int],
        context_length: int | None = None,
        *,
        forward: Forward | None = None,
        adapter: str = "",
    ) -> None:
        self.tokenizer = tokenizer
        self.stop_token_ids = frozenset(stop_token_ids)
        self.context_length = context_length
        self.vocab_size = whole_shape(model.get_input_embeddings().weight)[0]
        self.runner = Runner(forward or LibraryForward(model), adapter)

    def forget(self) -> None:
        """Drop what is kept of the last conversation; needed when the weights change."""
        self.runner.forget()

    def stream(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        is_cancelled: Callable[[], bool] = lambda: False,
        seed: int | None = None,
        continues_text: bool = False,
    ) -> Generation:
        """Begin to answer a prompt.

        Args:
            prompt_ids: the prompt's tokens.
            params: the knobs, without contradictions (`check_sampling`).
            is_cancelled: asked before every token.
            seed: start of the random numbers where `params.seed` is None; drawn if this is None too.
            continues_text: the answer goes on with the prompt's text rather than beginning a text of its own.

        Raises:
            UsageError: the prompt is empty, has tokens that the model does not know, or leaves no room for an answer.
        """
        return Generation(self, list(prompt_ids), params, is_cancelled, seed, continues_text)

    def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        is_cancelled: Callable[[], bool] = lambda: False,
        seed: int | None = None,
    ) -> list[Candidate]:
        """The answers to a prompt, `params.n` of them, the best first if there were more to choose from.

        Raises:
            UsageError: as `stream`.
            RunFailedError: the model's output is not a number.
        """
        generation = self.stream(prompt_ids, params, is_cancelled=is_cancelled, seed=seed)
        for _ in generation:
            pass
        return generation.candidates

    def prompt_logprobs(self, prompt_ids: Sequence[int], num_top: int) -> list[TokenLogprob | None]:
        """The log-probability of each token of a prompt; None for the first, before which there is nothing."""
        return [None, *score(self.runner, prompt_ids, num_top=num_top)]

    def next_token(
        self, prompt_ids: Sequence[int], answer_ids: Sequence[int], params: SamplingParams
    ) -> tuple[Tensor, Tensor]:
        """What could follow a prompt and the beginning of an answer.

        Returns:
            The logits as the model gives them, and the probabilities with which the knobs draw; each [vocabulary].

        Raises:
            UsageError: as `stream`.
        """
        ids = [*prompt_ids, *answer_ids]
        self.room_for(ids, params)
        logits, _, _ = self.runner.prefill(ids)
        sampler = self.sampler_for(params, prompt_ids, 0, 1)
        sampler.take(answer_ids)
        with self.runner.without_gradients():
            return logits[0], sampler.distribution(logits)[0]

    def sampler_for(self, params: SamplingParams, prompt_ids: Sequence[int], seed: int, num_rows: int) -> Sampler:
        """What chooses the tokens of some answers to a prompt."""
        words = tokens_of_bad_words(params.bad_words, self.tokenizer)
        return Sampler(params, prompt_ids, self.stop_for(params), seed, num_rows, self.runner.device, bad_words=words)

    def stop_for(self, params: SamplingParams) -> set[int]:
        """The tokens that end an answer."""
        return set(params.stop_token_ids) | (set() if params.ignore_eos else set(self.stop_token_ids))

    def check_fits(self, ids: Sequence[int]) -> None:
        """See that there are tokens, and only such as the model knows.

        Raises:
            UsageError: there are none, or some the model does not know.
        """
        if not ids:
            raise UsageError("the prompt is empty", remedy="Write something, or give the model a system message.")
        if (largest := max(ids)) >= self.vocab_size:
            raise UsageError(
                f"token {largest} does not exist: the model knows {self.vocab_size} tokens",
                remedy="The tokenizer has to be the model's own, and the ids in the knobs among its ids.",
            )

    def room_for(self, prompt_ids: Sequence[int], params: SamplingParams) -> int:
        """How many tokens the answer may have.

        Raises:
            UsageError: as `stream`.
        """
        named = [*params.stop_token_ids, *params.allowed_token_ids, *map(int, params.logit_bias)]
        self.check_fits([*prompt_ids, *named] if prompt_ids else [])
        if self.context_length is None:
            return params.max_tokens or _WITHOUT_CONTEXT
        room = self.context_length - len(prompt_ids)
        if room < 1:
            raise UsageError(
                f"the prompt has {len(prompt_ids)} tokens and the model's context is {self.context_length}",
                remedy="Shorten the prompt, or begin a new conversation.",
            )
        return min(params.max_tokens or room, room)


@dataclass(frozen=True)
class Advance:
    """One more token of each answer.

    Attributes:
        steps: the tokens.
        going: which of these answers go on.
        chosen: the tokens of those, [going].
    """

    steps: list[TokenStep]
    going: list[int]
    chosen: Tensor


class Generation:
    """The answers to one prompt as they grow: iterate for the steps, then read `candidates`.

    Attributes:
        max_tokens: how long an answer can get.
        seed: with which row 0 draws.
        num_reused: tokens of the prompt that did not have to be run, known after the first step.
        engine: whose model answers.
        prompt_ids: the prompt.
        params: the knobs.
    """

    def __init__(
        self,
        engine: Engine,
        prompt_ids: list[int],
        params: SamplingParams,
        is_cancelled: Callable[[], bool],
        seed: int | None,
        continues_text: bool,
    ) -> None:
        self.max_tokens = engine.room_for(prompt_ids, params)
        drawn = seed if seed is not None else secrets.randbits(31)
        self.seed = params.seed if params.seed is not None else drawn
        self.num_reused = 0
        self.engine = engine
        self.prompt_ids = prompt_ids
        self.params = params
        self._is_cancelled = is_cancelled
        self._context = prompt_ids[-8:] if continues_text else []
        self._stop = engine.stop_for(params)
        self._all = [Candidate(index) for index in range(params.best_of or params.n)]
        self._alive: list[int] = []

    @property
    def uses_seed(self) -> bool:
        """Whether the answers depend on the seed."""
        return not self.params.use_beam_search and not is_greedy(self.params)

    @property
    def candidates(self) -> list[Candidate]:
        """The answers as far as they have come: the `n` most probable ones, best first, if there are more than `n`."""
        if len(self._all) <= self.params.n:
            return self._all
        best = sorted(self._all, key=lambda candidate: -candidate.cumulative_logprob)
        return best[: self.params.n]

    def __iter__(self) -> Iterator[TokenStep]:
        return self._beams() if self.params.use_beam_search else self._tokens()

    def _beams(self) -> Iterator[TokenStep]:
        """Beam search knows its answers only at the end; then their tokens come all at once."""
        self._all = beam_search(
            self.engine.runner,
            self.engine.tokenizer,
            self.prompt_ids,
            self.params,
            stop_token_ids=self._stop,
            max_tokens=self.max_tokens,
            is_cancelled=self._is_cancelled,
        )
        for candidate in self._all:
            for number, token in enumerate(candidate.tokens, start=1):
                is_last = number == len(candidate.tokens)
                yield TokenStep(
                    candidate.index,
                    token,
                    candidate.text if is_last else "",
                    candidate.finish_reason if is_last else None,
                    candidate.stop_reason if is_last else None,
                )

    def _tokens(self) -> Iterator[TokenStep]:
        try:
            logits, rows = self.start()
        except CancelledError:
            return
        try:
            while True:
                advance = self.advance(logits)
                yield from advance.steps
                if not self.is_going:
                    return
                if len(advance.going) < len(advance.steps):
                    rows.keep(advance.going)
                logits = rows.step(advance.chosen)
        finally:
            self.close()

    def start(self) -> tuple[Tensor, Rows]:
        """Run the prompt: the logits after it for each answer [answers, vocabulary], and the rows to go on with.

        Raises:
            CancelledError: it was cancelled on the way.
        """
        runner, count = self.engine.runner, len(self._all)
        logits, rows, self.num_reused = runner.prefill(self.prompt_ids, self._check)
        if count > 1:
            rows, logits = rows.repeated(count), logits.repeat(count, 1)
        self._sampler = self.engine.sampler_for(self.params, self.prompt_ids, self.seed, count)
        self._texts = [self._detokenizer() for _ in self._all]
        self._alive = list(range(count))
        return logits, rows

    @property
    def is_going(self) -> bool:
        """Whether an answer has not ended yet, and nobody cancelled."""
        return bool(self._alive) and not self._is_cancelled()

    def advance(self, logits: Tensor) -> Advance:
        """Choose the next token of each answer that has not ended; `logits` are theirs, [answers, vocabulary]."""
        with self.engine.runner.without_gradients():
            chosen = self._sampler.choose(logits)
            tokens = logprobs_of(logits, chosen, self.params.logprobs)
        steps = [
            self._take(self._all[index], token, self._texts[index])
            for index, token in zip(self._alive, tokens, strict=True)
        ]
        going = [row for row, step in enumerate(steps) if step.finish_reason is None]
        if len(going) < len(steps):
            self._alive = [self._alive[row] for row in going]
            self._sampler.keep(going)
            chosen = chosen[going]
        return Advance(steps, going, chosen)

    def close(self) -> None:
        """Show what was held back of answers that did not come to their end."""
        for index in self._alive:
            self._all[index].text += self._texts[index].finish()
        self._alive = []

    def _take(self, candidate: Candidate, token: TokenLogprob, text: Detokenizer) -> TokenStep:
        """Add a token to a candidate and see whether it ends there."""
        candidate.tokens.append(token)
        is_stop = token.id in self._stop
        is_shown = not is_stop or not self.params.skip_special_tokens
        can_stop = len(candidate.tokens) > self.params.min_tokens
        shown = text.push(token.id, can_stop=can_stop) if is_shown else ""
        reason: FinishReason | None = None
        if is_stop:
            reason, candidate.stop_reason = "stop", token.id
        elif text.stopped_by is not None:
            reason, candidate.stop_reason = "stop", text.stopped_by
        elif len(candidate.tokens) >= self.max_tokens:
            reason = "length"
        if reason is not None:
            shown += text.finish()
            candidate.finish_reason = reason
        candidate.text += shown
        return TokenStep(candidate.index, token, shown, reason, candidate.stop_reason)

    def _check(self) -> None:
        if self._is_cancelled():
            raise CancelledError("cancelled")

    def _detokenizer(self) -> Detokenizer:
        return Detokenizer(
            self.engine.tokenizer,
            skip_special_tokens=self.params.skip_special_tokens,
            stop=self.params.stop,
            shows_stop=self.params.include_stop_str_in_output,
            context=self._context,
        )
