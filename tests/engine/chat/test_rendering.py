"""The raw view, the mask, and whether the chat sees what training made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.chat.conftest import MESSAGES, RENDERED, Caller
from tests.engine.tiny import save_tiny
from tui_trainer.errors import DataError

HISTORY = [*MESSAGES, {"role": "assistant", "content": "A model."}, {"role": "user", "content": "Whose?"}]


def test_the_raw_view_shows_every_token_with_the_special_ones_marked(worker: Caller) -> None:
    _, view = worker.call("render", messages=MESSAGES)
    assert view["text"] == RENDERED
    assert "".join(token["text"] for token in view["tokens"]) == RENDERED
    assert [token["text"] for token in view["tokens"] if token["special"]] == [
        "<|im_start|>",
        "<|im_end|>",
        "<|im_start|>",
    ]


def test_the_chat_and_training_have_the_same_tokens_and_the_reply_alone_is_trained(worker: Caller) -> None:
    _, view = worker.call("render", messages=HISTORY, reply="Yours.")
    assert (view["parity"]["same"], view["parity"]["first_difference"]) == (True, None)
    training = view["training"]["tokens"]
    assert [token["id"] for token in training[: len(view["tokens"])]] == [token["id"] for token in view["tokens"]]
    trained = "".join(token["text"] for token in training if token["trained"])
    assert trained == "A model.<|im_end|>Yours.<|im_end|>"
    assert view["training"]["num_trained"] == sum(token["trained"] for token in training)


def test_the_last_answer_is_taken_for_the_reply(worker: Caller) -> None:
    _, view = worker.call("render", messages=[*MESSAGES, {"role": "assistant", "content": "Me."}])
    assert view["text"] == RENDERED
    assert "".join(token["text"] for token in view["training"]["tokens"] if token["trained"]) == "Me.<|im_end|>"


def test_a_template_that_opens_a_thought_only_for_the_chat_differs_at_a_named_token(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "thinker")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(
        template.replace("'<|im_start|>assistant\n'", "'<|im_start|>assistant\n<think>\n'")
    )
    worker = Caller()
    worker.load(folder)
    _, view = worker.call("render", messages=MESSAGES, reply="Yes.")
    assert view["parity"]["same"] is False
    difference = view["parity"]["first_difference"]
    assert (difference["chat"]["text"], difference["training"]["text"]) == ("<", "Y")
    assert f"at token {difference['index']}" in view["parity"]["message"]


def test_a_template_that_takes_parts_gets_them_as_in_training(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "parts")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for p in m.content %}{% if p is mapping %}{{ p.text }}"
        "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    worker = Caller()
    worker.load(folder)
    _, view = worker.call("render", messages=MESSAGES, reply="Me.")
    assert "Who are you?" in view["text"]
    assert view["parity"]["same"] is True


def test_plain_text_has_no_training_side(worker: Caller) -> None:
    _, view = worker.call("render", prompt="Once upon")
    assert (view["text"], view["training"], view["template"]) == ("Once upon", None, None)
    assert view["parity"]["same"] is True


def test_a_message_without_content_is_told(worker: Caller) -> None:
    with pytest.raises(DataError, match="message 0 has no content"):
        worker.call("render", messages=[{"role": "user"}])
