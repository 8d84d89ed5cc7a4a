"""Prompts of evaluation rows with the answers they should get, for exact match and for samples during training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tui_trainer.engine.data.formats.messages import Message
from tui_trainer.engine.data.pipeline import DataPipeline
from tui_trainer.engine.data.rowset import RowSet


@dataclass(frozen=True)
class EvalReference:
    """A prompt and the answer it should get.

    Attributes:
        row: number of the row among its rows.
        prompt_ids: what the model is fed, as a chat would feed it.
        prompt: the last question, for showing.
        messages: the conversation before the answer; empty for plain text.
        reference: the answer.
    """

    row: int
    prompt_ids: list[int]
    prompt: str
    messages: list[Message]
    reference: str

    def to_dict(self) -> dict[str, Any]:
        """The reference as a JSON object."""
        return {"row": self.row, "prompt": self.prompt, "reference": self.reference}


def references(pipeline: DataPipeline, rows: RowSet, numbers: np.ndarray, limit: int) -> list[EvalReference]:
    """The first prompts and answers.

    Args:
        pipeline: the pipeline of the run.
        rows: the rows.
        numbers: which of them are evaluated on.
        limit: how many at most.
    """
    found: list[EvalReference] = []
    for number in numbers[:limit].tolist():
        for record in rows.records(number, number + 1):
            question = pipeline.question(record)
            if question is not None:
                found.append(
                    EvalReference(number, question.prompt_ids, question.prompt, question.messages, question.answer)
                )
    return found
