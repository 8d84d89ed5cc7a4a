"""Short ways from rows and templates to examples, for the tests of the data path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tui_trainer.config.data import DataConfig
from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.data.example import Example
from tui_trainer.engine.data.formats.detect import resolve_format
from tui_trainer.engine.data.formats.normalise import Chat
from tui_trainer.engine.data.masking.rendered import RenderedChat
from tui_trainer.engine.data.masking.turns import TurnFinder
from tui_trainer.engine.data.pipeline import DataPipeline
from tui_trainer.engine.data.rows import BadRow, Record
from tui_trainer.engine.data.templates.chat_template import ChatTemplate
from tui_trainer.engine.data.templates.library import find_template
from tui_trainer.engine.data.tokenizer import TextTokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def said(*turns: str) -> list[dict[str, Any]]:
    """A conversation in which user and assistant take turns, the user first."""
    roles = ("user", "assistant")
    return [{"role": roles[number % 2], "content": text} for number, text in enumerate(turns)]


class Lab:
    """A tokenizer to try templates and rows on."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer

    def template(self, text: str, **variables: Any) -> ChatTemplate:
        """A template of that text."""
        return ChatTemplate("test", "file", text, {**self.tokenizer.state.special_tokens, **variables})

    def find(
        self, text: str, messages: Sequence[Mapping[str, Any]], tools: Any = None, **variables: Any
    ) -> RenderedChat:
        """The rendered conversation with its turns."""
        finder = TurnFinder(self.template(text, **variables), self.tokenizer)
        return finder.find(Chat([dict(message) for message in messages], tools))

    def turns(self, text: str, messages: Sequence[Mapping[str, Any]], tools: Any = None, **variables: Any) -> list[str]:
        """What the assistant says, as it stands in the rendered text."""
        rendered = self.find(text, messages, tools, **variables)
        return [rendered.text[turn.start : turn.end] for turn in rendered.turns]

    def pipeline(
        self, rows: Sequence[Mapping[str, Any]], template: str | None = CHATML, stage: str = "sft", **data: Any
    ) -> DataPipeline:
        """The pipeline for rows of that kind."""
        config = DataConfig(**data)
        spec = resolve_format(list(map(dict, rows)), config.format, config.columns, stage, "rows")
        chosen = self.template(template, **config.template_kwargs) if template else None
        return DataPipeline(config, stage, self.tokenizer, chosen, [spec])

    def examples(
        self, rows: Sequence[Any], template: str | None = CHATML, *, in_detail: bool = False, **settings: Any
    ) -> list[Example]:
        """The examples of some rows."""
        pipeline = self.pipeline([row for row in rows if isinstance(row, dict)], template, **settings)
        return pipeline.examples(records(rows), in_detail=in_detail)

    def trained(self, example: Example) -> list[str]:
        """The text of each stretch of trained tokens."""
        return [self.tokenizer.decode(example.input_ids[start:end]) for start, end in example.trained]


def records(rows: Sequence[dict[str, Any] | BadRow]) -> list[Record]:
    """Rows with their numbers."""
    return [Record(number, 0, row, f"rows.jsonl:{number + 1}") for number, row in enumerate(rows)]


def codes(example: Example | RenderedChat) -> set[str]:
    """The codes of all problems."""
    found = {problem.code.value for problem in example.problems}
    if isinstance(example, RenderedChat):
        found |= {problem.code.value for turn in example.turns for problem in turn.problems}
    return found


def run_config(path: Path | str, **sections: Any) -> RunConfig:
    """A configuration on a dataset, with the tokenizer of bytes."""
    data = {"path": str(path), **sections.pop("data", {})}
    model = sections.pop("model", {"tokenizer_name_or_path": "builtin:bytes"})
    return RunConfig.model_validate({"data": data, "model": model, **sections})


def own_template(tokenizer: TextTokenizer) -> ChatTemplate | None:
    """The template the tokenizer carries."""
    return find_template(None, tokenizer.state.chat_template, tokenizer.state.special_tokens)
