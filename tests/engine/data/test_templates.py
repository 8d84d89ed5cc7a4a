"""Chat templates: equal to `transformers`, found by name or file, and never able to hang or fill the machine."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.engine.data.helpers import CHATML, said
from tests.engine.data.template_files import CONVERSATIONS, TOOLS, installed_templates
from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderError
from tui_trainer.engine.data.templates.library import builtin_names, find_template
from tui_trainer.engine.data.templates.limits import memory_limit
from tui_trainer.errors import ConfigurationError, DataError

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def rendered(text: str, messages: Any = None, **variables: Any) -> str:
    return ChatTemplate("test", "file", text, {**SPECIAL, **variables}).render(messages or said("q", "a"))


SMALL = {
    "chatml": CHATML,
    "blocks trimmed": (
        "  {% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n  {% endfor %}\n"
    ),
    "generation": (
        "{% for m in messages %}{% generation %}\n  {% set x = m.content %}{{ x }}\n{% endgeneration %}\n{% endfor %}"
    ),
    "tojson": "{{ messages | tojson }} {{ messages | tojson(indent=2) }} {{ '<é>' | tojson(ensure_ascii=True) }}",
    "loop controls": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "namespace": "{% set ns = namespace(a=1) %}{% for m in messages %}{% set ns.a = ns.a + 1 %}{% endfor %}{{ ns.a }}",
    "dict": "{{ dict(a=1).items() | list }}{{ dict.fromkeys(['x'], 2) }}",
    "strings": (
        "{{ messages[0].content.upper() }}{{ 'a-b'.split('-') }}{{ messages[0]['content'][:1] }}{{ ' x '.strip() }}"
    ),
    "macro": "{% macro say(m) %}[{{ m.content }}]{% endmacro %}{% for m in messages %}{{ say(m) }}{% endfor %}",
    "special tokens": "{{ bos_token }}{{ messages[-1].content }}{{ eos_token }}",
    "undefined": "{{ nothing }}{% if tools is defined and tools %}t{% endif %}{{ documents is none }}",
    "raise": "{{ raise_exception('no') }}",
    "type error": "{{ messages + 1 }}",
    "private": "{{ messages.__class__ }}",
    "namespace private": "{% set ns = namespace(_a=1) %}{{ ns._a }}",
}


@pytest.mark.parametrize("name", SMALL)
def test_small_templates_render_as_transformers_does(name: str, merging_tokenizer: PreTrainedTokenizerFast) -> None:
    for messages in (said("q é", "a"), [{"role": "system", "content": " s "}, *said("q", "a", "r")]):
        for is_prompt in (False, True):
            _assert_equal(SMALL[name], messages, None, merging_tokenizer, is_prompt)


@pytest.mark.parametrize("path", installed_templates(), ids=lambda path: path.stem)
def test_real_templates_render_as_transformers_does(path: Path, merging_tokenizer: PreTrainedTokenizerFast) -> None:
    text = path.read_text("utf-8")
    for name, messages in CONVERSATIONS.items():
        for is_prompt in (False, True):
            tools = TOOLS if name == "tools" else None
            _assert_equal(text, messages, tools, merging_tokenizer, is_prompt)


def _assert_equal(text: str, messages: Any, tools: Any, tokenizer: PreTrainedTokenizerFast, is_prompt: bool) -> None:
    options: dict[str, Any] = {"tools": tools, "add_generation_prompt": is_prompt}
    try:
        expected = tokenizer.apply_chat_template(messages, chat_template=text, tokenize=False, **options)
    except Exception:
        expected = None
    template = ChatTemplate("test", "file", text, dict(tokenizer.special_tokens_map))
    try:
        ours = template.render(messages, **options)
    except RenderError:
        ours = None
    assert ours == expected


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        (
            "{% set ns = namespace(n=0) %}{% for a in range(99999) %}{% for b in range(99999) %}"
            "{% set ns.n = ns.n + 1 %}{% endfor %}{% endfor %}"
        ),
    ],
    ids=["empty", "counting"],
)
def test_endless_loops_end(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_trainer.engine.data.templates.limits.RENDER_SECONDS", 0.3)
    started = time.monotonic()
    with pytest.raises(RenderError, match="too long"):
        rendered(text)
    assert time.monotonic() - started < 20
    assert rendered(CHATML).startswith("<|im_start|>user")


def test_an_endless_loop_ends_in_a_thread_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_trainer.engine.data.templates.limits.RENDER_SECONDS", 0.3)
    found: list[str] = []

    def render() -> None:
        try:
            rendered("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
        except RenderError as error:
            found.append(str(error))

    thread = threading.Thread(target=render)
    thread.start()
    thread.join(30)
    assert found
    assert "too long" in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 10 ** 10 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'a'.center(99999999999) }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ ['a'] * 99999999 }}",
    ],
)
def test_explosions_are_refused(text: str) -> None:
    with memory_limit, pytest.raises(RenderError, match=r"large|memory|million"):
        rendered(text)


def test_a_template_cannot_reach_python() -> None:
    with pytest.raises(RenderError):
        rendered("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(RenderError):
        rendered("{{ cycler.__init__.__globals__ }}")


def test_errors_have_a_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.jinja"
    path.write_text("{{ 1 }}\n{% for %}\n")
    with pytest.raises(DataError) as found:
        find_template(str(path), None, {})
    assert found.value.where == f"{path}:2"
    deep = tmp_path / "deep.jinja"
    deep.write_text("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}")
    with pytest.raises(DataError):
        find_template(str(deep), None, {})


def test_templates_by_name_file_and_model(tmp_path: Path) -> None:
    assert {"chatml", "plain", "instruction"} <= set(builtin_names())
    chatml = find_template("chatml", "model text", SPECIAL)
    assert chatml is not None
    assert chatml.source == "builtin"
    assert chatml.render(said("q", "a")) == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
    own = find_template(None, "{{ messages[0].content }}", SPECIAL, "my-model")
    assert own is not None
    assert (own.source, own.name) == ("model", "my-model")
    path = tmp_path / "my template.jinja"
    path.write_text("{{ eos_token }}")
    from_file = find_template(str(path), None, SPECIAL)
    assert from_file is not None
    assert (from_file.source, from_file.name, from_file.render([])) == ("file", "my template", "</s>")
    assert find_template("none", CHATML, {}) is None
    assert find_template(None, None, {}) is None


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="did you mean chatml"):
        find_template("chatlm", None, {})


def test_two_templates_of_one_tokenizer() -> None:
    template = find_template(None, {"default": "plain", "tool_use": "tools"}, {})
    assert template is not None
    assert template.render(said("q")) == "plain"
    assert template.render(said("q"), TOOLS) == "tools"


@pytest.mark.parametrize("name", builtin_names())
def test_shipped_templates_close_every_turn(name: str, merging_tokenizer: PreTrainedTokenizerFast) -> None:
    from tui_trainer.engine.data.formats.normalise import Chat
    from tui_trainer.engine.data.masking.turns import TurnFinder
    from tui_trainer.engine.data.tokenizer import TextTokenizer

    template = find_template(name, None, merging_tokenizer.special_tokens_map)
    assert template is not None
    messages = [{"role": "system", "content": "Be brief."}, *said("q", "a", "r", "b")]
    found = TurnFinder(template, TextTokenizer.of(merging_tokenizer)).find(Chat(messages))
    end = "<|im_end|>" if name == "chatml" else "</s>"
    assert [found.text[turn.start : turn.end] for turn in found.turns] == [f"a{end}", f"b{end}"]
    assert not any(turn.problems for turn in found.turns)
    assert not found.problems


def test_the_hash_changes_with_what_is_printed() -> None:
    plain = ChatTemplate("a", "file", CHATML, {})
    assert plain.hash == ChatTemplate("b", "model", CHATML, {}).hash
    assert plain.hash != ChatTemplate("a", "file", CHATML, {"enable_thinking": False}).hash
    assert plain.hash != ChatTemplate("a", "file", CHATML + " ", {}).hash
