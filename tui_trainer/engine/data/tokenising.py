"""From drafts to tokens with their mask; the second half of `pipeline`.

Conversations of a known shape are encoded without places and masked by their anchors; everything else by its places.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Encoding

from tui_trainer.engine.data.drafting import Draft
from tui_trainer.engine.data.example import Example, Stretch, Weighted
from tui_trainer.engine.data.masking.alignment import PromptCheck, edge_at, end_at
from tui_trainer.engine.data.masking.anchors import Anchors
from tui_trainer.engine.data.masking.rendered import RenderedChat
from tui_trainer.engine.data.problems import Code, RowProblem
from tui_trainer.engine.data.tokenizer import TextTokenizer


class Tokeniser:
    """Gives drafts their tokens and masks.

    Args:
        tokenizer: the tokenizer.
        train_on: assistant, last or all.
        ends_text: whether plain text ends with the end token.
    """

    def __init__(self, tokenizer: TextTokenizer, train_on: str, *, ends_text: bool) -> None:
        self._tokenizer = tokenizer
        self._trains_all = train_on == "all"
        self._ends_text = ends_text
        self._prompt_check = PromptCheck(tokenizer)

    def tokenise(self, drafts: Sequence[Draft], *, in_detail: bool) -> None:
        """Fill in the examples of the drafts that have a text."""
        wanted = [draft for draft in drafts if draft.text and draft.example.is_usable]
        quick = [] if in_detail else [draft for draft in wanted if _needs_no_places(draft)]
        for with_special_tokens in (False, True):
            group = [draft for draft in quick if draft.with_special_tokens == with_special_tokens]
            self._tokenise_quickly(group, with_special_tokens)
        rest = [draft for draft in wanted if not draft.example.input_ids]
        for with_special_tokens in (False, True):
            group = [draft for draft in rest if draft.with_special_tokens == with_special_tokens]
            self._tokenise_with_places(group, with_special_tokens, in_detail)
        for draft in wanted:
            self._finish(draft.example)

    def _tokenise_quickly(self, drafts: Sequence[Draft], with_special_tokens: bool) -> None:
        """Leaves out the conversations whose anchors are not where they should be."""
        if not drafts:
            return
        texts = [draft.text for draft in drafts]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=with_special_tokens)
        for draft, encoding in zip(drafts, encodings, strict=True):
            if draft.chat is None:
                self._take(draft, encoding.ids)
                self._mask_text(draft.example)
            elif draft.chat.anchors is not None:
                self._mask_by_anchors(draft, encoding.ids, draft.chat.anchors)

    def _mask_by_anchors(self, draft: Draft, ids: list[int], anchors: Anchors) -> None:
        """Take the tokens of a conversation and mask them, if its anchors are where they should be."""
        trained = anchors.stretches(ids, self._tokenizer.is_added, draft.trained_messages)
        if trained is None:
            return
        self._take(draft, ids)
        turns = [turn for turn in anchors.turns if turn.message in draft.trained_messages]
        for turn, (start, end) in zip(turns, trained, strict=True):
            self._train(draft, turn.message, start, end)
            draft.example.problems.extend(turn.problems)
        if self._trains_all:
            draft.example.trained = [(0, len(ids))]

    def _tokenise_with_places(self, drafts: Sequence[Draft], with_special_tokens: bool, in_detail: bool) -> None:
        if not drafts:
            return
        texts = [draft.text for draft in drafts]
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=with_special_tokens)
        for draft, encoding in zip(drafts, encodings, strict=True):
            self._take(draft, encoding.ids)
            if draft.chat is not None:
                self._mask_chat(draft, encoding, draft.chat)
            elif draft.answer_start is not None:
                self._mask_pair(draft, encoding, draft.answer_start)
            else:
                self._mask_text(draft.example)
            if in_detail:
                draft.example.stretches = self._stretches(draft, encoding)

    def _take(self, draft: Draft, ids: list[int]) -> None:
        draft.example.text = draft.text
        draft.example.input_ids = ids

    def _mask_chat(self, draft: Draft, encoding: Encoding, chat: RenderedChat) -> None:
        example = draft.example
        length = len(draft.text)
        for turn in chat.turns:
            if turn.message not in draft.trained_messages:
                continue
            example.problems.extend(turn.problems)
            start = edge_at(encoding, turn.start, length).token
            end = end_at(encoding, turn.end, length, self._tokenizer)
            problem = self._prompt_check.problem(draft.text, turn.start, example.input_ids, start, turn.message)
            if problem:
                example.problems.append(problem)
            if start < end:
                self._train(draft, turn.message, start, end)
        if self._trains_all:
            example.trained = [(0, len(example.input_ids))]
        self._look_for_special_tokens(example)

    def _train(self, draft: Draft, message: int, start: int, end: int) -> None:
        """Let the tokens of a turn count in the loss; where all tokens count, all weigh the same."""
        draft.example.trained.append((start, end))
        if message in draft.weights and not self._trains_all:
            draft.example.weighted.append(Weighted(start, end, draft.weights[message]))

    def _look_for_special_tokens(self, example: Example) -> None:
        """A special token inside a text of the row would end the turn or begin another."""
        for number, message in enumerate(example.messages):
            found = self._tokenizer.special_pattern.search(message["content"])
            if found:
                example.problems.append(
                    RowProblem(
                        Code.CONTROL_CHARACTERS,
                        f"message {number} ({message['role']}) holds the special token {found.group()!r}",
                    )
                )

    def _mask_text(self, example: Example) -> None:
        self._end(example)
        example.trained = [(0, len(example.input_ids))]

    def _mask_pair(self, draft: Draft, encoding: Encoding, answer_start: int) -> None:
        example = draft.example
        self._end(example)
        if example.input_ids[-1:] != [self._tokenizer.eos_token_id]:
            example.problems.append(RowProblem(Code.NO_END_OF_TURN, "no end token follows the completion"))
        edge = edge_at(encoding, answer_start, len(draft.text))
        if edge.straddler is not None:
            token = self._tokenizer.token_text(example.input_ids[edge.straddler])
            message = f"the token {token!r} lies across the border of prompt and completion"
            example.problems.append(RowProblem(Code.TEMPLATE_NOT_PREFIX, message, edge.straddler))
        start = 0 if self._trains_all else edge.token
        if start < len(example.input_ids):
            example.trained = [(start, len(example.input_ids))]

    def _end(self, example: Example) -> None:
        """Put the end token behind plain text, unless the tokenizer did."""
        eos = self._tokenizer.eos_token_id
        if self._ends_text and eos is not None and example.input_ids[-1:] != [eos]:
            example.input_ids = [*example.input_ids, eos]

    def _finish(self, example: Example) -> None:
        if example.trained and example.trained[0][0] == 0:
            # nothing precedes the first token, so nothing predicts it
            first, *others = example.trained
            example.trained = [(1, first[1]), *others] if first[1] > 1 else others
        bos = self._tokenizer.bos_token_id
        if bos is not None and example.input_ids[:2] == [bos, bos]:
            text = self._tokenizer.token_text(bos)
            example.problems.append(RowProblem(Code.DOUBLE_BOS, f"begins with {text!r} twice"))

    def _stretches(self, draft: Draft, encoding: Encoding) -> list[Stretch]:
        """Which tokens come from which text of the row."""
        length = len(draft.text)
        total = len(draft.example.input_ids)
        if draft.chat is None:
            if draft.answer_start is None:
                return [Stretch(0, total, "text")]
            edge = edge_at(encoding, draft.answer_start, length).token
            return [Stretch(0, edge, "user"), Stretch(edge, total, "assistant")]
        stretches = [
            Stretch(edge_at(encoding, slot.start, length).token, edge_at(encoding, slot.end, length).token, slot.role)
            for slot in draft.chat.slots
            if slot.role != "assistant"
        ]
        stretches += [
            Stretch(
                edge_at(encoding, turn.start, length).token,
                end_at(encoding, turn.end, length, self._tokenizer),
                "assistant",
            )
            for turn in draft.chat.turns
        ]
        return sorted(stretches, key=lambda stretch: stretch.start)


def _needs_no_places(draft: Draft) -> bool:
    if draft.chat is not None:
        return draft.chat.anchors is not None
    return draft.answer_start is None
