"""Asking a model with another chat template than the one it was trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.chat.conftest import MESSAGES, RENDERED, Caller
from tests.engine.tiny import save_tiny
from tui_trainer.errors import DataError, UsageError

OWN = "{% for m in messages %}[{{ mood or 'no' }}]{{ m.content }}{% endfor %}>"


def test_the_prompt_the_raw_view_and_parity_follow_the_template(worker: Caller) -> None:
    asked: dict[str, Any] = {"messages": MESSAGES, "template": "plain"}
    expected = "User:\nWho are you?\n\nAssistant:\n"
    _, document = worker.call("generate", **asked, params={"max_tokens": 2})
    assert document["rendered"] == expected
    assert (document["template"]["name"], document["template"]["source"]) == ("plain", "builtin")
    _, view = worker.call("render", **asked, reply="Me.")
    assert (view["text"], view["template"]["name"], view["parity"]["same"]) == (expected, "plain", True)
    assert "".join(token["text"] for token in view["training"]["tokens"]).startswith(expected + "Me.")
    assert worker.ask(max_tokens=2)["rendered"] == RENDERED


def test_a_file_is_read_with_each_question_and_given_the_variables(worker: Caller, tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(OWN)
    asked: dict[str, Any] = {"messages": MESSAGES, "params": {"max_tokens": 1}, "template": str(path)}
    assert worker.call("generate", **asked)[1]["rendered"] == "[no]Who are you?>"
    path.write_text("!" + OWN)
    _, document = worker.call("generate", **asked, template_kwargs={"mood": "wild"})
    assert document["rendered"] == "![wild]Who are you?>"
    assert (document["template"]["source"], document["template"]["kwargs"]) == ("file", {"mood": "wild"})


def test_a_turn_of_the_chosen_template_ends_where_that_closes_it(tmp_path: Path) -> None:
    worker = Caller()
    worker.load(save_tiny(tmp_path / "plain", with_template=False))
    closing = 258
    only_that = {"max_tokens": 4, "allowed_token_ids": [closing]}
    _, document = worker.call("generate", messages=MESSAGES, params=only_that, template="chatml")
    assert document["rendered"] == RENDERED
    assert document["candidates"][0]["finish_reason"] == "stop"
    _, document = worker.call(
        "generate", messages=MESSAGES, params={**only_that, "ignore_eos": True}, template="chatml"
    )
    assert document["candidates"][0]["finish_reason"] == "length"


def test_templates_are_listed_and_the_one_in_use_is_told(worker: Caller, tmp_path: Path) -> None:
    _, listed = worker.call("templates")
    assert {"chatml", "instruction", "plain"} <= {each["name"] for each in listed["known"]}
    assert listed["template"]["source"] == "model"
    assert worker.call("templates", template="chatml")[1]["template"]["source"] == "builtin"
    assert Caller().call("templates")[1]["template"] is None
    assert worker.call("templates", template="none")[1]["template"] is None


@pytest.mark.parametrize(
    ("name", "message"),
    [("chatmk", "did you mean chatml"), ("gone.jinja", "cannot be read"), ("broken.jinja", "no valid template")],
)
def test_a_template_that_cannot_be_had_is_told_and_the_session_lives(
    worker: Caller, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "broken.jinja").write_text("{% for %}")
    for method in ("generate", "render", "templates"):
        with pytest.raises(UsageError, match=message):
            worker.call(method, messages=MESSAGES, template=name)
    assert worker.ask(max_tokens=1)["candidates"]


def test_a_template_that_raises_is_told_by_its_name(worker: Caller, tmp_path: Path) -> None:
    (tmp_path / "strict.jinja").write_text("{{ raise_exception('only the system may speak') }}")
    with pytest.raises(DataError, match=r"chat template strict.*only the system may speak"):
        worker.call("generate", messages=MESSAGES, template="./strict.jinja")


def test_the_models_own_template_is_asked_for_by_name(worker: Caller, tmp_path: Path) -> None:
    assert worker.call("render", messages=MESSAGES, template="model")[1]["text"] == RENDERED
    worker.load(save_tiny(tmp_path / "plain", with_template=False))
    with pytest.raises(UsageError, match="no chat template of its own"):
        worker.call("render", messages=MESSAGES, template="model")


def test_sets_of_prompts_are_asked_with_it_too(worker: Caller, tiny_folder: Path) -> None:
    prompts = [{"prompt": "Who?", "reply": "Me."}]
    ways: list[dict[str, Any]] = [{}, {"template": "plain"}]
    usual, other = (worker.call("score", prompts=prompts, **chosen)[1]["a"]["perplexity"] for chosen in ways)
    assert usual != other
    knobs = {"max_tokens": 6, "temperature": 0}
    texts = [
        worker.call("prompt_set", prompts=["Who?"], models=[str(tiny_folder)], params=knobs, **chosen)[1]["rows"][0]
        for chosen in ways
    ]
    assert texts[0]["mean_logprob"] != texts[1]["mean_logprob"]
