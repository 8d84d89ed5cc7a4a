"""A row as the screen shows it: what the template adds, where training differs from a chat, windows of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.engine.data.helpers import CHATML, run_config, said
from tui_trainer.engine.data.browse import Browser
from tui_trainer.engine.data.samples import Samples
from tui_trainer.engine.data.session import DataSession
from tui_trainer.wire.row_query import RowQuery

PREAMBLE = "{{ '<|im_start|>system\nYou are a helpful assistant of the 3rd of May<|im_end|>\n' }}"
FORGETFUL = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{{ message['content'] if loop.last or message['role'] == 'user' else 'gone' }}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _sample(tmp_path: Path, template: str, messages: list[dict[str, Any]], **data: Any) -> dict[str, Any]:
    rows, file = tmp_path / "rows.jsonl", tmp_path / "template.jinja"
    rows.write_text((json.dumps({"messages": messages}) + "\n") * 2)
    file.write_text(template)
    return Samples(DataSession(run_config(rows, data={"template": str(file), **data}))).document(0)


def _text(sample: dict[str, Any], start: int, end: int) -> str:
    return "".join(sample["tokens"][start:end])


def test_what_the_template_adds_is_told(tmp_path: Path) -> None:
    sample = _sample(tmp_path, PREAMBLE + CHATML, said("hello there my friend", "good day to you"))
    ((start, end),) = sample["added"]
    assert _text(sample, start, end) == "system\nYou are a helpful assistant of the 3rd of May"
    assert sample["template"]["source"] == "file"
    assert _sample(tmp_path, CHATML, said("hello there my friend", "good day to you"))["added"] == []


def test_the_first_token_that_differs_is_told(tmp_path: Path) -> None:
    sample = _sample(tmp_path, FORGETFUL, said("one", "two", "three", "four"))
    tokens = [problem["token"] for problem in sample["problems"] if problem["code"] == "template_not_prefix"]
    assert tokens
    first = min(tokens)
    assert _text(sample, first, first + 4) == "gone"
    cut = _sample(tmp_path, FORGETFUL, said("one", "two", "three", "four"), max_length=40, truncation="left")
    moved = sample["num_tokens"] - cut["num_tokens"]
    (problem,) = [found for found in cut["problems"] if found["code"] == "template_not_prefix"]
    assert problem["token"] == (first - moved if first >= moved else None)


def test_a_session_that_is_opened_anew_knows_the_verdict(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": said("q", "a" * n)}) + "\n" for n in (3, 9, 5)))
    DataSession(run_config(path)).verdict()
    browser = Browser(DataSession(run_config(path)))
    view = browser.view(RowQuery(order="longest"))
    browser.fill(view)
    assert view.rows(0, 9) == [1, 2, 0]
