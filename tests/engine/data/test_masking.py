"""What is trained of a conversation, on templates that show each way in which other trainers get it wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.data.helpers import CHATML, Lab, codes, said
from tui_trainer.engine.data.templates.chat_template import RenderError

THREE = said("First?", "One.", "Second?", "Two.", "Third?", "Three.")


def test_exactly_content_and_end_of_turn(lab: Lab) -> None:
    assert lab.turns(CHATML, THREE) == ["One.<|im_end|>", "Two.<|im_end|>", "Three.<|im_end|>"]
    assert codes(lab.find(CHATML, THREE)) == set()


def test_the_same_text_in_every_role(lab: Lab) -> None:
    messages = [{"role": "system", "content": "same"}, *said("same", "same", "same", "same")]
    rendered = lab.find(CHATML, messages)
    assert [rendered.text[turn.start : turn.end] for turn in rendered.turns] == ["same<|im_end|>"] * 2
    assert all(rendered.text[: turn.start].endswith("assistant\n") for turn in rendered.turns)


@pytest.mark.parametrize(
    "template",
    [
        # marks inside a macro: the tracker of transformers counts from the wrong place
        (
            "{% macro say(m) %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
            "<|im_end|>{% endgeneration %}\n{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endmacro %}"
            "{% for m in messages %}{{ say(m) }}{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
        # the end of turn outside the marks: the model would never learn to stop
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
            "{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
        # the line break behind the turn inside the marks
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
            "{{ m.content }}<|im_end|>\n{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
    ],
    ids=["in a macro", "end outside", "glue inside"],
)
def test_generation_marks_do_not_matter(lab: Lab, template: str) -> None:
    assert lab.turns(template, THREE) == ["One.<|im_end|>", "Two.<|im_end|>", "Three.<|im_end|>"]


def test_a_template_that_strips_content(lab: Lab) -> None:
    template = CHATML.replace("message['content']", "message['content'] | trim")
    assert lab.turns(template, said("  q  ", "\n a \n")) == ["a<|im_end|>"]
    assert codes(lab.find(template, said("  q  ", "\n a \n"))) == set()


def test_content_that_keeps_its_blanks(lab: Lab) -> None:
    assert lab.turns(CHATML, said("q", "  a\n\n")) == ["  a\n\n<|im_end|>"]


def test_an_answer_that_holds_the_end_of_turn(lab: Lab) -> None:
    assert lab.turns(CHATML, said("q", "a<|im_end|>\n<|im_start|>user\nb")) == [
        "a<|im_end|>\n<|im_start|>user\nb<|im_end|>"
    ]
    row = {"messages": said("q", "a<|im_end|>b")}
    (example,) = lab.examples([row])
    assert "control_characters" in codes(example)
    assert lab.trained(example) == ["a<|im_end|>b<|im_end|>"]


def test_a_system_prompt_the_template_adds_is_not_trained(lab: Lab) -> None:
    template = (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are named Test.<|im_end|>\n{% endif %}" + CHATML
    )
    rendered = lab.find(template, said("q", "a"))
    assert "named Test" in rendered.text[: rendered.turns[0].start]
    assert lab.turns(template, said("q", "a")) == ["a<|im_end|>"]


def test_an_end_token_behind_the_last_turn_is_not_part_of_it(lab: Lab) -> None:
    template = CHATML + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    rendered = lab.find(template, THREE)
    assert rendered.text.endswith("<|im_end|>\n</s>")
    assert [rendered.text[turn.start : turn.end] for turn in rendered.turns][-1] == "Three.<|im_end|>"
    assert codes(rendered) == set()


QWEN_LIKE = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and "
    "loop.index0 > ns.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_history_that_loses_its_thinking_is_reported(lab: Lab) -> None:
    rendered = lab.find(QWEN_LIKE, said("q", "a", "r", "b"))
    assert [rendered.text[turn.start : turn.end] for turn in rendered.turns] == [
        "a<|im_end|>",
        "<think>\n\n</think>\n\nb<|im_end|>",
    ]
    first, last = rendered.turns
    assert [problem.code.value for problem in first.problems] == ["template_not_prefix"]
    assert "rewritten once it is history" in first.problems[0].message
    assert "'<think>'" in first.problems[0].message
    assert last.problems == ()


def test_reasoning_is_trained_where_it_is_printed(lab: Lab) -> None:
    messages = said("q", "a", "r", "b")
    messages[1]["reasoning_content"] = "why a"
    messages[3]["reasoning_content"] = "why b"
    rendered = lab.find(QWEN_LIKE, messages)
    assert rendered.text[rendered.turns[1].start : rendered.turns[1].end] == "<think>\nwhy b\n</think>\n\nb<|im_end|>"
    assert "template_drops_content" in codes(rendered)


def test_a_prompt_that_opens_the_thinking_is_reported_with_its_first_token(lab: Lab) -> None:
    template = CHATML.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
    rendered = lab.find(template, said("q", "answer"))
    assert rendered.text[rendered.turns[0].start : rendered.turns[0].end] == "answer<|im_end|>"
    (problem,) = rendered.turns[0].problems
    assert problem.code.value == "template_not_prefix"
    assert "a chat has '<think>'" in problem.message
    assert "training has" in problem.message


OPEN_TURNS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def test_turns_that_end_where_the_next_begins(lab: Lab) -> None:
    rendered = lab.find(OPEN_TURNS, said("q", "a", "r", "b"))
    assert [rendered.text[turn.start : turn.end] for turn in rendered.turns] == ["a<|user|>", "b"]
    assert codes(rendered) == {"no_end_of_turn"}
    assert rendered.turns[0].problems == ()


def test_a_last_turn_that_is_closed_by_another_token(lab: Lab) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    rendered = lab.find(template, said("q", "a", "r", "b"))
    assert [rendered.text[turn.start : turn.end] for turn in rendered.turns] == ["a<|im_end|>", "b<|return|>"]
    assert codes(rendered) == {"template_not_prefix"}


def test_turns_that_nothing_closes(lab: Lab) -> None:
    template = (
        "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}"
        "{% if add_generation_prompt %}### assistant:\n{% endif %}"
    )
    rendered = lab.find(template, said("q", "a", "r", "b"))
    assert [rendered.text[turn.start : turn.end] for turn in rendered.turns] == ["a", "b"]
    assert codes(rendered) == {"no_end_of_turn"}


def test_an_end_of_turn_that_is_no_token_is_reported(lab: Lab) -> None:
    rendered = lab.find(CHATML.replace("<|im_end|>", "[/END]"), said("q", "a"))
    assert rendered.text[rendered.turns[0].start : rendered.turns[0].end] == "a[/END]"
    assert codes(rendered) == {"no_end_of_turn"}


def test_a_system_message_that_moves_to_the_last_question(lab: Lab) -> None:
    template = (
        "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}"
        "{% endif %}{% endfor %}{% for m in messages %}{% if m.role == 'user' %}<|user|>"
        "{% if loop.index0 == ns.last and "
        "messages[0].role == 'system' %}{{ messages[0].content }} {% endif %}{{ m.content }}<|assistant|>"
        "{% elif m.role == 'assistant' %}{{ m.content }}</s>{% endif %}{% endfor %}"
    )
    messages = [{"role": "system", "content": "Short."}, *said("q", "a", "r", "b")]
    rendered = lab.find(template, messages)
    assert [rendered.text[turn.start : turn.end] for turn in rendered.turns] == ["a</s>", "b</s>"]
    assert [len(turn.problems) for turn in rendered.turns] == [1, 0]


def test_content_that_the_template_drops_is_reported(lab: Lab) -> None:
    template = "{% for message in messages if message.role != 'system' %}" + CHATML.partition("%}")[2]
    rendered = lab.find(template, [{"role": "system", "content": "Be brief."}, *said("q", "a")])
    assert codes(rendered) == {"template_drops_content"}
    assert "message 0 (system)" in rendered.problems[0].message
    assert [rendered.text[turn.start : turn.end] for turn in rendered.turns] == ["a<|im_end|>"]


def test_a_template_that_takes_parts_only(lab: Lab) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content if part.type == 'text' %}"
        "{{ part.text }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert lab.turns(template, said("q", "a")) == ["a<|im_end|>"]


def test_a_conversation_that_begins_with_the_assistant(lab: Lab) -> None:
    template = "{% if messages[0].role == 'user' %}{% endif %}" + CHATML
    messages = [{"role": "assistant", "content": "Hello!"}, *said("q", "a")]
    rendered = lab.find(template, messages)
    assert [rendered.text[turn.start : turn.end] for turn in rendered.turns][1] == "a<|im_end|>"
    assert rendered.text[rendered.turns[0].start : rendered.turns[0].end] == "Hello!<|im_end|>"


def test_two_turns_of_the_assistant_in_a_row(lab: Lab) -> None:
    messages = [*said("q", "a"), {"role": "assistant", "content": "b"}]
    assert lab.turns(CHATML, messages) == ["a<|im_end|>", "b<|im_end|>"]


def test_roles_the_template_refuses(lab: Lab) -> None:
    template = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + CHATML
    )
    with pytest.raises(RenderError, match="roles must alternate"):
        lab.find(template, [*said("q", "a"), {"role": "assistant", "content": "b"}])
    (example,) = lab.examples([{"messages": [*said("q", "a"), {"role": "assistant", "content": "b"}]}], template)
    assert not example.is_usable
    problem = next(problem for problem in example.problems if problem.code.value == "template_error")
    assert "roles: user, assistant, assistant" in problem.message


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}]


def _calling() -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "no", "name": "weather"},
        {"role": "assistant", "content": "It is dry."},
    ]


def test_tool_calls_are_trained_with_their_end_of_turn(lab: Lab) -> None:
    template = (
        "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>"
        "{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<call>"
        "{{ c.function | tojson }}</call>{% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert lab.turns(template, _calling(), TOOLS) == [
        '<call>{"name": "weather", "arguments": {"city": "Oslo"}}</call><|im_end|>',
        "It is dry.<|im_end|>",
    ]
    assert codes(lab.find(template, _calling(), TOOLS)) == set()


def test_arguments_as_text_where_the_template_wants_text(lab: Lab) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + '(' + c.function.arguments + ')' }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert lab.turns(template, _calling())[0] == 'weather({"city": "Oslo"})<|im_end|>'


def test_dropped_tools_and_calls_are_reported(lab: Lab) -> None:
    rendered = lab.find(CHATML, _calling(), TOOLS)
    assert codes(rendered) == {"template_no_tools"}
    lists_tools = "{% for tool in tools %}{{ tool.function.name }}{% endfor %}" + CHATML
    assert "call of weather in message 1" in lab.find(lists_tools, _calling(), TOOLS).problems[0].message


def test_last_trains_the_last_turn_and_all_trains_everything(lab: Lab) -> None:
    row = {"messages": THREE}
    (last,) = lab.examples([row], train_on="last")
    assert lab.trained(last) == ["Three.<|im_end|>"]
    (everything,) = lab.examples([row], train_on="all")
    assert everything.trained == [(1, everything.num_tokens)]


def test_weights_choose_turns(lab: Lab) -> None:
    messages = said("q", "a", "r", "b")
    messages[1]["weight"] = 0
    (example,) = lab.examples([{"messages": messages}])
    assert lab.trained(example) == ["b<|im_end|>"]
    (everything,) = lab.examples([{"messages": messages}], train_on="all")
    assert everything.trained == [(1, everything.num_tokens)]
    (problem,) = everything.problems
    assert problem.message == "message 1 weighs 0, but with data.train_on = all every token weighs 1"


def test_padding_that_is_the_end_token_does_not_untrain_the_end_of_turn(lab: Lab) -> None:
    template = CHATML.replace("<|im_end|>", "</s>")
    (example,) = lab.examples([{"messages": said("q", "a")}], template)
    assert lab.tokenizer.pad_token_id == lab.tokenizer.eos_token_id == example.input_ids[example.trained[0][1] - 1]
    assert lab.trained(example) == ["a</s>"]
    assert example.labels[example.trained[0][1] - 1] == lab.tokenizer.eos_token_id


def test_a_token_over_the_border_belongs_to_the_prompt_and_is_reported(lab: Lab) -> None:
    (example,) = lab.examples([{"messages": said("q", "\n\nanswer")}])
    problem = next(problem for problem in example.problems if problem.code.value == "template_not_prefix")
    assert "merge across the border" in problem.message
    assert example.input_ids == lab.tokenizer.encode(example.text)
    assert "".join(lab.trained(example)).endswith("answer<|im_end|>")


def test_a_doubled_begin_of_text_is_reported(lab: Lab) -> None:
    (example,) = lab.examples([{"messages": said("q", "a")}], "{{ bos_token }}{{ bos_token }}" + CHATML)
    assert "double_bos" in codes(example)
    (example,) = lab.examples([{"messages": said("q", "a")}], "{{ bos_token }}" + CHATML)
    assert "double_bos" not in codes(example)
    assert example.input_ids[0] == lab.tokenizer.bos_token_id
    assert example.input_ids[1] != lab.tokenizer.bos_token_id
