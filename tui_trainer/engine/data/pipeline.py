"""The one way from a row to an example: format, template, tokens, mask, cutting.

The preview, the check, the verdict and training all call `DataPipeline.examples`, so what is shown is what is trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tui_trainer.config.data import DataConfig
from tui_trainer.engine.data.collector import collector_paused
from tui_trainer.engine.data.cutting import Cutter
from tui_trainer.engine.data.drafting import Drafter, Question
from tui_trainer.engine.data.example import Example
from tui_trainer.engine.data.formats.detect import FormatSpec
from tui_trainer.engine.data.formats.roles import WITHOUT_TURNS
from tui_trainer.engine.data.masking.turns import TurnFinder
from tui_trainer.engine.data.problems import Code, RowProblem
from tui_trainer.engine.data.rows import Record
from tui_trainer.engine.data.spans import spans_of
from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderLimitError
from tui_trainer.engine.data.templates.limits import memory_limit, watched
from tui_trainer.engine.data.tokenising import Tokeniser
from tui_trainer.engine.data.tokenizer import TextTokenizer
from tui_trainer.errors import ConfigurationError, DataError, Problem

BATCH_ROWS = 512
"""Rows worth handing over at a time: enough for the tokenizer's threads, few enough to be cancelled soon."""

_MOSTLY, _HARDLY = 0.95, 0.05


class DataPipeline:
    """Turns rows into examples.

    Args:
        data: the section `[data]`.
        stage: the stage of the run.
        tokenizer: the tokenizer.
        template: the chat template, None for none.
        specs: the format of each part of the data, as `Record.part` numbers them.
        stop_token_ids: ids at which generation stops; where they are not known, nothing is said about them.

    Raises:
        ConfigurationError: conversations cannot be split.
        DataError: the template takes too long or too much memory.
    """

    def __init__(
        self,
        data: DataConfig,
        stage: str,
        tokenizer: TextTokenizer,
        template: ChatTemplate | None,
        specs: Sequence[FormatSpec],
        stop_token_ids: Iterable[int] = (),
    ) -> None:
        _check_truncation(data, specs)
        self.tokenizer = tokenizer
        self.template = template
        self.specs = tuple(specs)
        self._train_on = "all" if stage == "pretrain" else data.train_on
        self._finder = _finder_of(template, tokenizer) if template else None
        self._drafter = Drafter(data, self._train_on, tokenizer, self._finder, self.specs)
        self._tokeniser = Tokeniser(tokenizer, self._train_on, ends_text=data.add_special_tokens)
        self._cutter = Cutter(data.max_length, data.truncation)
        self.stop_problem = self._find_stop_problem(frozenset(stop_token_ids))
        """What is wrong with the end of every turn, whatever the rows; None if nothing is."""

    def examples(self, records: Sequence[Record], *, in_detail: bool = False) -> list[Example]:
        """The examples of some rows: one a row, more where a long text is split; each row has at least one.

        Args:
            records: the rows.
            in_detail: with spans, for showing; slower.
        """
        with collector_paused():
            return self._examples(records, in_detail=in_detail)

    def _examples(self, records: Sequence[Record], *, in_detail: bool) -> list[Example]:
        with memory_limit, watched():
            drafts = [self._drafter.draft(record, in_detail=in_detail) for record in records]
        self._tokeniser.tokenise(drafts, in_detail=in_detail)
        examples = [example for draft in drafts for example in self._cutter.cut(draft.example)]
        for example in examples:
            self._judge(example)
            if in_detail:
                example.spans = spans_of(example, self.tokenizer)
        return examples

    def question(self, record: Record) -> Question | None:
        """The last question of a row with its answer, to see whether the model gives it; None if it has none."""
        return self._drafter.question(record)

    def _judge(self, example: Example) -> None:
        if not example.is_usable:
            return
        if example.num_trained == 0:
            example.is_usable = False
            what = (
                "what comes before the answer fills data.max_length"
                if example.is_truncated
                else "holds nothing that would be trained"
            )
            example.problems.append(RowProblem(Code.NO_TRAINED_TOKENS, what))
        elif self._train_on != "all" and example.has_prompt:
            share = example.num_trained / example.num_tokens
            if share > _MOSTLY:
                example.problems.append(RowProblem(Code.MOSTLY_TRAINED, f"{share:.0%} of its tokens are trained"))
            elif share < _HARDLY:
                example.problems.append(RowProblem(Code.HARDLY_TRAINED, f"{share:.1%} of its tokens are trained"))

    def _find_stop_problem(self, stop_token_ids: frozenset[int]) -> RowProblem | None:
        """Whether the template's end of turn is no token at which generation stops."""
        token = self._finder.profile.plain.stop_token if self._finder else ""
        index = self.tokenizer.added_tokens.get(token) if token else None
        if index is None or not stop_token_ids or index in stop_token_ids:
            return None
        return RowProblem(
            Code.NO_END_OF_TURN, f"turns end with {token!r}, at which generation does not stop as the model is set up"
        )


def _finder_of(template: ChatTemplate, tokenizer: TextTokenizer) -> TurnFinder:
    try:
        with memory_limit, watched():
            return TurnFinder(template, tokenizer)
    except RenderLimitError as error:
        where = template.where or f"chat template {template.name}"
        raise DataError(f"the template {error}", where=where, remedy="Choose another template.") from None


def _check_truncation(data: DataConfig, specs: Sequence[FormatSpec]) -> None:
    chats = [spec.format for spec in specs if spec.format not in WITHOUT_TURNS]
    if data.truncation == "split" and chats:
        raise ConfigurationError.of(
            [Problem("data.truncation", f"split is for plain text, the rows are {chats[0]}", "set right, left or drop")]
        )
