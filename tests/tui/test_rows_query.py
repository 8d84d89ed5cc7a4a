"""What is asked for on the Data screen, in words; and what was found, in words."""

from __future__ import annotations

import json

import pytest

from tui_trainer.errors import UsageError
from tui_trainer.tui.feeds.dataset import DatasetState
from tui_trainer.tui.rows_query import ORDER_WORDS, lengths_text, parse_lengths, parse_search, query_words
from tui_trainer.tui.verdict_words import found_pairs, verdict_line
from tui_trainer.tui.widgets.sample import Sample
from tui_trainer.wire.row_query import ORDERS, RowQuery


def test_the_worker_understands_every_query() -> None:
    query = RowQuery("a", True, "duplicate", 1, 2, "longest")
    assert RowQuery.of(json.loads(json.dumps(query.to_dict()))) == query
    assert RowQuery().to_dict() == {}
    assert RowQuery.of({}).is_all
    with pytest.raises(UsageError, match="colour"):
        RowQuery.of({"colour": "red"})
    with pytest.raises(UsageError, match="sideways"):
        RowQuery.of({"order": "sideways"})


def test_every_order_has_its_words() -> None:
    assert tuple(ORDER_WORDS) == ORDERS


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("100..200", (100, 200)), ("100..", (100, None)), ("..50", (None, 50)), ("7-9", (7, 9)), ("  ", (None, None))],
)
def test_ranges_of_lengths(typed: str, expected: tuple[int | None, int | None]) -> None:
    assert parse_lengths(typed) == expected


@pytest.mark.parametrize("typed", ["long", "9..3", "1..2..3", "-4"])
def test_ranges_that_are_none(typed: str) -> None:
    if typed == "-4":
        assert parse_lengths(typed) == (None, 4)
        return
    with pytest.raises(ValueError, match=r"100\.\.200|smaller"):
        parse_lengths(typed)


def test_searches_and_their_words() -> None:
    assert parse_search("/a+/") == ("a+", True)
    assert parse_search("a/b") == ("a/b", False)
    with pytest.raises(ValueError, match="no regular expression"):
        parse_search("/(/")
    words = query_words(RowQuery("x\x1b" * 50, problem="answer_cut", max_tokens=2000, order="longest"))
    assert "\x1b" not in words
    assert words.endswith("…” · answer_cut · ..2\u202f000 tokens · longest first")
    assert lengths_text(None, None) == ""


def test_several_sources_and_what_the_template_adds_are_told() -> None:
    sources = [
        {"path": "/data/a.jsonl", "format": "messages", "weight": 1.0},
        {"path": "/data/b/", "format": "text", "weight": 2.5, "confidence": 0.9, "columns": {"text": "body"}},
    ]
    sample = Sample.of(
        {
            "tokens": ["<s>", "system\n", "Today is ", "Monday", "</s>"],
            "input_ids": [0, 1, 2, 3, 4],
            "added": [[1, 4]],
            "template": {"name": "llama", "source": "model"},
        }
    )
    pairs = found_pairs({"sources": sources, "format": "messages", "confidence": 1.0}, True, sample)
    assert pairs == [
        ("x1", "a.jsonl, messages"),
        ("x2.5", "b, text"),
        ("", "90% sure; c corrects it"),
        ("text", "← body"),
        ("template", "llama (model)"),
        ("it adds", "Today is Monday"),
    ]


def test_what_cannot_be_trained_on_is_said_before_all_else() -> None:
    verdict = {"num_rows": 4, "blocks_launch": True, "reason": "3 of 4 rows are of no use", "problems": []}
    for has_model in (True, False):
        line = verdict_line(DatasetState(verdict=verdict), has_model, 160).plain
        assert line.startswith(" ✘ cannot be trained on: 3 of 4 rows are of no use")
    assert verdict_line(DatasetState(verdict={"num_rows": 4}), False, 160).plain.startswith(" no model is chosen")
    assert verdict_line(DatasetState(verdict={"num_rows": 4}), True, 160).plain.startswith(" ✔")


def test_problems_are_told_in_words() -> None:
    problems = [{"code": "template_no_tools", "title": "with tools lost in the template", "count": 5700}]
    line = verdict_line(DatasetState(verdict={"num_rows": 9000, "problems": problems}), True, 160).plain
    assert "5\u202f700 with tools lost in the template" in line
    assert "template_no_tools" not in line


def test_kinds_of_problems_that_find_no_room_are_counted() -> None:
    problems = [{"title": f"of the kind {number}", "count": 1} for number in range(9)]
    state = DatasetState(verdict={"num_rows": 9, "problems": problems, "fingerprint": "abcdef"})
    for room in range(90, 260):
        line = verdict_line(state, True, room).plain
        assert len(line) <= room
        told = line.count("1 of the kind")
        assert (f" · {9 - told} more, i shows all" in line) == (told < 9)
    assert line.endswith("fingerprint abcdef")
