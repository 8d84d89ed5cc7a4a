"""Which format rows have, and what they mean."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.data.helpers import said
from tui_trainer.engine.data.formats.detect import FormatSpec, resolve_format
from tui_trainer.engine.data.formats.messages import clean_messages, without_reasoning
from tui_trainer.engine.data.formats.normalise import Chat, Pair, Text, Tokens, meaning_of
from tui_trainer.engine.data.problems import UnusableRowError
from tui_trainer.errors import ConfigurationError, DataError

SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


def detected(row: dict[str, Any], stage: str = "sft", **settings: Any) -> FormatSpec:
    return resolve_format([row] * 4, settings.pop("wanted", "auto"), settings.pop("columns", {}), stage, "rows")


DETECTED: list[tuple[dict[str, Any], str, dict[str, str]]] = [
    ({"messages": said("q", "a")}, "messages", {"messages": "messages"}),
    ({"id": 1, "talk": said("q", "a")}, "messages", {"messages": "talk"}),
    ({"messages": '[{"role": "user", "content": "q"}]'}, "messages", {"messages": "messages"}),
    (
        {"conversations": SHAREGPT, "system": "s", "tools": "[]"},
        "sharegpt",
        {"conversations": "conversations", "system": "system", "tools": "tools"},
    ),
    (
        {"instruction": "i", "input": "", "output": "o", "history": [["q", "a"]]},
        "alpaca",
        {"instruction": "instruction", "output": "output", "input": "input", "history": "history"},
    ),
    ({"instruction": "i", "response": "r"}, "prompt_completion", {"prompt": "instruction", "completion": "response"}),
    ({"Question": "q", "Answer": 18}, "prompt_completion", {"prompt": "Question", "completion": "Answer"}),
    ({"prompt": said("q"), "completion": [{"role": "assistant", "content": "a"}]}, "prompt_completion", {}),
    ({"text": "t"}, "text", {"text": "text"}),
    ({"title": "t"}, "text", {"text": "title"}),
    ({"input_ids": [1, 2], "labels": [-100, 2]}, "tokenized", {"input_ids": "input_ids", "labels": "labels"}),
    ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference", {"prompt": "prompt"}),
    ({"messages": said("q", "a"), "label": True}, "kto", {"messages": "messages", "label": "label"}),
    ({"a": 1, "b": 2}, "unknown", {}),
    ({"name": "x", "city": "y"}, "unknown", {}),
]


@pytest.mark.parametrize(
    ("row", "name", "columns"), DETECTED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_detection(row: dict[str, Any], name: str, columns: dict[str, str]) -> None:
    spec = detected(row)
    assert spec.format == name
    assert columns.items() <= spec.columns.items()
    assert (spec.confidence > 0) == (name != "unknown")


def test_confidence_is_the_share_of_rows_that_fit() -> None:
    rows: list[Any] = [{"text": "a"}] * 3 + [{"text": 1}]
    assert resolve_format(rows, "auto", {}, "sft", "rows").confidence == 0.75


def test_pretraining_prefers_text() -> None:
    row = {"prompt": "q", "completion": "a", "text": "t"}
    assert detected(row).format == "prompt_completion"
    assert detected(row, stage="pretrain").format == "text"


def test_columns_by_mapping() -> None:
    row = {"q": {"text": "nested", "more": [{"x": "deep"}]}, "a.b": "dotted", "c": 3}
    spec = detected(row, columns={"prompt": "q.text", "completion": "a.b"})
    assert spec.format == "prompt_completion"
    assert spec.confidence == 1
    assert meaning_of(row, spec) == Pair("nested", "dotted")
    deep = detected(row, columns={"prompt": "q.more.0.x", "completion": "c"})
    assert meaning_of(row, deep) == Pair("deep", "3")


def test_mappings_that_cannot_be() -> None:
    row = {"input": "q", "output": "a"}
    with pytest.raises(ConfigurationError, match="no row of rows has a column 'inptu'"):
        detected(row, columns={"prompt": "inptu", "completion": "output"})
    with pytest.raises(
        ConfigurationError, match=r"data\.columns\.question: is no role of the format prompt_completion"
    ):
        detected(row, wanted="prompt_completion", columns={"question": "input"})
    with pytest.raises(ConfigurationError, match="does not say which column is the completion"):
        detected(row, columns={"prompt": "input"})
    with pytest.raises(DataError, match="no column is taken for the messages"):
        detected(row, wanted="messages")


def meaning(row: dict[str, Any], **settings: Any) -> Any:
    allow = settings.pop("allow", False)
    return meaning_of(row, detected(row, **settings), allow_preference=allow)


def test_meanings() -> None:
    assert meaning({"messages": said("q", "a")}) == Chat(said("q", "a"))
    assert meaning({"conversations": SHAREGPT, "system": "s"}) == Chat(
        [{"role": "system", "content": "s"}, *said("q", "a")]
    )
    assert meaning({"instruction": "i", "input": "x", "output": "o"}) == Pair("i\nx", "o")
    assert meaning({"instruction": "i", "input": "", "output": "o", "system": "s"}) == Pair("i", "o", "s")
    assert meaning({"instruction": "i", "output": "o", "history": [["q", "a"]]}) == Chat(said("q", "a", "i", "o"))
    assert meaning({"text": "t"}) == Text("t")
    assert meaning({"input_ids": [5, 6, 7], "labels": [-100, 6, -100]}) == Tokens([5, 6, 7], [False, True, False])
    assert meaning({"prompt": said("q"), "completion": [{"role": "assistant", "content": "a"}]}) == Chat(said("q", "a"))
    assert meaning({"prompt": "q", "chosen": "good", "rejected": "bad"}, allow=True) == Chat(said("q", "good"))
    assert meaning({"chosen": said("q", "good"), "rejected": said("q", "bad")}, allow=True) == Chat(said("q", "good"))
    row = {
        "conversations": SHAREGPT[:1],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "b"},
    }
    assert meaning(row, allow=True) == Chat(said("q", "good"))


def test_messages_made_uniform() -> None:
    cleaned = clean_messages(
        [
            {"role": "System", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": None},
            {"role": "user", "content": "q", "tool_calls": None, "weight": 1},
            {
                "role": "Assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1}'}}],
            },
            {"role": "tool", "content": "r", "tool_call_id": "1"},
            {"role": "assistant", "content": "a", "reasoning": "because"},
        ],
        "messages",
    )
    assert cleaned == [
        {"role": "system", "content": "a\nb"},
        {"role": "user", "content": "q", "weight": 1.0},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
        },
        {"role": "tool", "content": "r", "tool_call_id": "1"},
        {"role": "assistant", "content": "a", "reasoning_content": "because", "thinking": "because"},
    ]


def test_sharegpt_calls() -> None:
    cleaned = clean_messages(
        [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
            {"from": "observation", "value": "r"},
        ],
        "conversations",
    )
    assert cleaned[1]["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
    assert cleaned[2] == {"role": "tool", "content": "r"}


def test_reasoning_can_be_left_out() -> None:
    messages = [*said("q", "<think>\nbecause\n</think>\n\nanswer")]
    messages[1]["reasoning_content"] = "why"
    assert without_reasoning(messages) == said("q", "answer")


@pytest.mark.parametrize("value", ["[{'type': 'text', 'text': 'a'}]", "{'a': 1}", " [ { \"b': 1"])
def test_printed_objects_are_told_from_text(value: str) -> None:
    row = {"input": value, "output": "b"}
    if value.startswith(" "):
        assert meaning(row) == Pair(value, "b")
    else:
        with pytest.raises(UnusableRowError, match="printed Python object"):
            meaning(row)


def test_labels_have_to_be_ids() -> None:
    with pytest.raises(UnusableRowError, match="neither -100 nor the id"):
        meaning({"input_ids": [5, 6], "labels": [5, 7]})
