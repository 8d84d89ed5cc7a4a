"""The things that can be wrong with a row, with the words for them; `verdict` counts them, every screen shows them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tui_trainer.errors import Severity


class Code(StrEnum):
    """Problem codes; other programs rely on them."""

    PARSE_ERROR = "parse_error"
    SCHEMA = "schema"
    NO_TRAINED_TOKENS = "no_trained_tokens"
    ANSWER_CUT = "answer_cut"
    TRUNCATED = "truncated"
    TOO_LONG_DROPPED = "too_long_dropped"
    EMPTY_ANSWER = "empty_answer"
    NULL_FIELD = "null_field"
    ROLE_ORDER = "role_order"
    DOUBLE_BOS = "double_bos"
    NO_END_OF_TURN = "no_end_of_turn"
    MOSTLY_TRAINED = "mostly_trained"
    HARDLY_TRAINED = "hardly_trained"
    DUPLICATE = "duplicate"
    TEMPLATE_DROPS_CONTENT = "template_drops_content"
    TEMPLATE_NOT_PREFIX = "template_not_prefix"
    TEMPLATE_NO_TOOLS = "template_no_tools"
    TEMPLATE_ERROR = "template_error"
    UNSUPPORTED_PART = "unsupported_part"
    PREFERENCE_AS_SFT = "preference_as_sft"
    ENCODING = "encoding"
    CONTROL_CHARACTERS = "control_characters"
    REMOTE_CODE = "remote_code"


@dataclass(frozen=True)
class _Wording:
    severity: Severity
    title: str
    summary: str
    remedy: str


_WORDING: dict[Code, _Wording] = {
    Code.PARSE_ERROR: _Wording(
        "error", "unreadable", "unreadable", "Mend or remove them; they are left out of training."
    ),
    Code.SCHEMA: _Wording(
        "error",
        "of another format",
        "columns or types that do not fit the format",
        'Mend them, or say which column plays which role, as data.columns = {prompt = "question", '
        'completion = "answer"}; they are left out of training.',
    ),
    Code.NO_TRAINED_TOKENS: _Wording(
        "error",
        "without a trained token",
        "no token counts in the loss",
        "Check data.format, data.columns and data.train_on, and that data.max_length leaves room for the answer; such "
        "rows are left out.",
    ),
    Code.ANSWER_CUT: _Wording(
        "error",
        "with a cut answer",
        "part of the answer is lost to data.max_length",
        'Raise data.max_length, or set data.truncation to "left" or "drop".',
    ),
    Code.TRUNCATED: _Wording("warning", "cut", "cut to data.max_length", "Raise data.max_length if the rest matters."),
    Code.TOO_LONG_DROPPED: _Wording(
        "warning",
        "too long, left out",
        "longer than data.max_length and left out",
        "Raise data.max_length to keep them.",
    ),
    Code.EMPTY_ANSWER: _Wording(
        "error",
        "with an empty answer",
        "an answer is empty",
        "Fill or remove them; a row with nothing but empty answers is left out.",
    ),
    Code.NULL_FIELD: _Wording(
        "error", "with null for text", "null where text is needed", "Fill or remove them; they are left out."
    ),
    Code.ROLE_ORDER: _Wording(
        "warning",
        "with unusual roles",
        "roles in an unusual order",
        "Check that user and assistant take turns and that the system message comes first.",
    ),
    Code.DOUBLE_BOS: _Wording(
        "error",
        "with a doubled BOS",
        "the begin-of-text token comes twice",
        "Remove it from the rows or from the template.",
    ),
    Code.NO_END_OF_TURN: _Wording(
        "error",
        "without a trained end",
        "the token at which generation stops is not trained, so the model would not learn to stop",
        "Choose a template that ends an answer with the model's stop token.",
    ),
    Code.MOSTLY_TRAINED: _Wording(
        "warning",
        "trained above 95 %",
        "more than 95 % of the tokens are trained",
        "Check that prompt and answer are not swapped.",
    ),
    Code.HARDLY_TRAINED: _Wording(
        "warning",
        "trained below 5 %",
        "less than 5 % of the tokens are trained",
        "That is fine for short answers to long prompts.",
    ),
    Code.DUPLICATE: _Wording(
        "warning", "doubled", "the same tokens as an earlier row", "Remove them unless it is meant."
    ),
    Code.TEMPLATE_DROPS_CONTENT: _Wording(
        "error",
        "with content lost in the template",
        "content that the chat template leaves out",
        "Choose a template that prints every message.",
    ),
    Code.TEMPLATE_NOT_PREFIX: _Wording(
        "error",
        "unlike a chat",
        "what is trained differs from what a chat shows the model",
        'Set data.train_on to "last", choose another template, or give the variables by data.template_kwargs.',
    ),
    Code.TEMPLATE_NO_TOOLS: _Wording(
        "error",
        "with tools lost in the template",
        "tools or tool calls that the chat template leaves out",
        "Choose a template that knows tools.",
    ),
    Code.TEMPLATE_ERROR: _Wording(
        "error",
        "refused by the template",
        "refused by the chat template",
        "Mend the rows, or choose another template; they are left out.",
    ),
    Code.UNSUPPORTED_PART: _Wording(
        "error",
        "with parts that are no text",
        "parts that are not text",
        "Only text is trained on; such rows are left out.",
    ),
    Code.PREFERENCE_AS_SFT: _Wording(
        "error",
        "with judged answers",
        "answers that are judged good or bad, not examples to follow",
        "Set data.allow_preference_as_sft = true to train on the chosen side as plain examples.",
    ),
    Code.ENCODING: _Wording(
        "error",
        "not valid text",
        "bytes or characters that are no valid text",
        "Convert the file, as with iconv; the rows are left out.",
    ),
    Code.CONTROL_CHARACTERS: _Wording(
        "warning",
        "with control characters",
        "control characters or special tokens inside the text",
        "They are trained on as they stand; remove them unless it is meant.",
    ),
    Code.REMOTE_CODE: _Wording(
        "error",
        "with code that is not run",
        "needs code that is not run",
        "Convert the dataset to Parquet or JSON lines.",
    ),
}


def severity_of(code: Code) -> Severity:
    """Whether a problem forbids or damages what is trained, or is worth a look."""
    return _WORDING[code].severity


def title_of(code: Code) -> str:
    """What it is in the few words that follow "12 rows" on a line of many."""
    return _WORDING[code].title


def summary_of(code: Code) -> str:
    """What it is, in the words that follow "12 rows: "."""
    return _WORDING[code].summary


def remedy_of(code: Code) -> str:
    """What to do about it."""
    return _WORDING[code].remedy


@dataclass(frozen=True, slots=True)
class RowProblem:
    """One thing wrong with one row.

    Attributes:
        code: the kind of problem.
        message: what it is in this row.
        token: the token it begins at, before anything is cut; None where it has no one place.
    """

    code: Code
    message: str
    token: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The problem as a JSON object; with its token if it has one."""
        found = {"code": self.code.value, "severity": severity_of(self.code), "message": self.message}
        return found if self.token is None else {**found, "token": self.token}


class UnusableRowError(Exception):
    """A row cannot become an example; caught by the pipeline, never shown as it is."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.problem = RowProblem(code, message)
