"""Masks on the templates of real models, where they are installed (see `template_files`)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tests.engine.data.template_files import CONVERSATIONS, TOOLS, installed_templates
from tui_trainer.engine.data.formats.normalise import Chat
from tui_trainer.engine.data.masking.turns import TurnFinder
from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderError
from tui_trainer.engine.data.tokenizer import TextTokenizer

_CONTROL_TOKEN = re.compile(
    r"<\|[^|<>\n'\"{}]{1,40}\|>|<｜[^｜<>\n]{1,30}｜>|</?[a-z_]{2,20}>|<[a-z_]+\|>|<\|[a-z_\"]+>"
)
_NOT_CLOSED = {"glm4moe"}
"""Templates that leave the last turn open."""


@pytest.mark.parametrize("path", installed_templates(), ids=lambda path: path.stem)
def test_replies_are_covered_and_nothing_else(path: Path, merging_tokenizer: PreTrainedTokenizerFast) -> None:
    text = path.read_text("utf-8")
    tokenizer = _with_tokens_of(text, merging_tokenizer)
    finder = TurnFinder(ChatTemplate(path.stem, "file", text, dict(merging_tokenizer.special_tokens_map)), tokenizer)
    for name, messages in CONVERSATIONS.items():
        tools = TOOLS if name == "tools" else None
        try:
            found = finder.find(Chat(messages, tools))
        except RenderError:
            continue
        said = [found.text[turn.start : turn.end] for turn in found.turns]
        answers = [message for message in messages if message["role"] == "assistant"]
        assert len(said) == len(answers)
        for turn, answer in zip(said, answers, strict=True):
            assert answer["content"] in turn
            others = [message["content"] for message in messages if message["role"] != "assistant"]
            assert not any(other in turn for other in others)
        codes = {problem.code.value for turn in found.turns for problem in turn.problems}
        if path.stem not in _NOT_CLOSED and finder.profile.plain.stop_token:
            assert "no_end_of_turn" not in codes
            assert said[-1].endswith(finder.profile.plain.stop_token)


def _with_tokens_of(template: str, base: PreTrainedTokenizerFast) -> TextTokenizer:
    """The tokenizer with the control tokens that a template prints."""
    import copy

    tokenizer = copy.deepcopy(base)
    tokenizer.add_tokens(sorted(set(_CONTROL_TOKEN.findall(template)) - set(base.get_vocab())))
    return TextTokenizer.of(tokenizer)
