"""Searching, filtering and sorting rows in the data worker, and what it hands over of large rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.data.helpers import said
from tui_trainer.errors import CancelledError, UsageError, WorkbenchError
from tui_trainer.wire.server import Cancellation

from .test_data import Caller, params_of

Write = Callable[..., Path]
NUM_ROWS = 1300


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Row n has an answer of n % 50 words; row 700 has none; Żółw swims in every hundredth."""
    made: list[dict[str, Any]] = [
        {"id": n, "messages": said(f"question {n}" + " Żółw" * (n % 100 == 0), "word " * (n % 50 + 1))}
        for n in range(NUM_ROWS)
    ]
    made[700]["messages"] = said("nothing")
    return made


@pytest.fixture
def rows_file(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) for row in rows]
    lines[800] = '{"messages": [broken'
    path.write_text("\n".join(lines) + "\n")
    return path


def shown(call: Caller, params: dict[str, Any], query: dict[str, Any], stop: int = 1000) -> list[int]:
    """The rows of a query, in order."""
    call("select", params, query=query)
    return [row["row"] for row in call("rows", params, start=0, stop=stop, query=query)["rows"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"text": "question 12"}, [n for n in range(NUM_ROWS) if str(n).startswith("12") and n != 800]),
        ({"text": "żółw"}, [n for n in range(0, NUM_ROWS, 100) if n not in (700, 800)]),
        ({"text": "Question 12"}, []),
        ({"text": r"question \d$", "is_regex": True}, list(range(1, 10))),
        ({"text": r"QUESTION 1[23]$", "is_regex": True}, []),
        ({"text": r"[a-z]+ 1[23]$", "is_regex": True}, [12, 13]),
        ({"text": "1299"}, [1299]),
        ({"text": "is not JSON"}, [800]),
    ],
)
def test_search_finds_exactly_the_rows_that_hold_it(
    rows_file: Path, query: dict[str, Any], expected: list[int]
) -> None:
    call = Caller()
    assert shown(call, params_of(rows_file), query) == expected


def test_what_was_found_is_shown_with_the_text_around_it(rows_file: Path) -> None:
    call, params = Caller(), params_of(rows_file)
    page = call("rows", params, start=2, stop=3, query={"text": "żółw"}, columns=["id"])
    found = page["rows"][0]["found"]
    assert (found["column"], found["text"][found["start"] : found["end"]]) == ("messages", "Żółw")
    assert page["rows"][0]["cells"] == {"id": "200"}
    assert page["num_rows"] == 11


def test_a_search_can_be_cancelled_and_goes_on_where_it_was(rows_file: Path) -> None:
    call, params = Caller(), {**params_of(rows_file), "query": {"text": "question"}}
    call("open", params)
    browser = next(iter(call.server._opened.values())).browser
    cancellation = Cancellation()

    def report(task: str, done: int | None, total: int | None) -> None:
        if done and done >= 500:
            raise CancelledError("cancelled")

    from tui_trainer.wire.row_query import RowQuery

    view = browser.view(RowQuery("question"))
    with pytest.raises(CancelledError):
        browser.fill(view, report)
    assert 500 <= view.num_searched < NUM_ROWS
    part = len(view)
    assert part == view.num_searched - (view.num_searched > 700)
    assert call("find", params, row=part, direction=1)["is_complete"] is False
    result = call("select", params, cancellation)
    assert result == {"num_rows": NUM_ROWS - 2}
    assert view.rows(0, 5000) == [n for n in range(NUM_ROWS) if n not in (700, 800)] or view.rows(0, 1)


def test_progress_says_how_many_are_found(rows_file: Path) -> None:
    call, params = Caller(), params_of(rows_file)
    call("open", params)
    call.items.clear()
    call("select", params, query={"text": "żółw"})
    last = call.items[-1]
    assert (last["task"], last["done"], last["found"]) == ("searching", NUM_ROWS, 11)


def test_next_and_previous_match(rows_file: Path) -> None:
    call, params = Caller(), {**params_of(rows_file), "query": {"text": "żółw"}}
    call("select", params)
    assert call("find", params, row=100, direction=1)["row"] == 200
    assert call("find", params, row=600, direction=1) == {"line": 7, "row": 900, "is_complete": True}
    assert call("find", params, row=100, direction=-1)["row"] == 0
    assert call("find", params, row=0, direction=-1)["row"] is None
    assert call("find", params, row=300, direction=0)["line"] == 3
    assert call("find", params, row=301, direction=0)["line"] is None


def test_filters_and_orders_need_the_verdict(rows_file: Path) -> None:
    call, params = Caller(), params_of(rows_file)
    with pytest.raises(UsageError, match="not judged yet"):
        call("select", params, query={"order": "longest"})
    verdict = call("verdict", params)
    lengths = {row["row"]: row["num_tokens"] for row in _all(call, params)}
    trained = {row["row"]: row["num_trained"] for row in _all(call, params)}
    longest = shown(call, params, {"order": "longest"}, stop=40)
    assert [lengths[row] for row in longest] == sorted(lengths.values(), reverse=True)[:40]
    least = shown(call, params, {"order": "least_trained", "min_tokens": 1}, stop=3)
    assert least[0] == 700 or trained[least[0]] == min(value for row, value in trained.items() if lengths[row])
    between = shown(call, params, {"min_tokens": 100, "max_tokens": 120})
    assert between == [row for row, length in lengths.items() if 100 <= length <= 120][:1000]
    assert len(between) > 10
    codes = {problem["code"]: problem["count"] for problem in verdict["problems"]}
    assert codes["no_trained_tokens"] == 1
    assert shown(call, params, {"problem": "no_trained_tokens"}) == [700]
    assert shown(call, params, {"problem": "parse_error"}) == [800]
    assert shown(call, params, {"problem": "duplicate", "text": "question 5"}) == []
    both = shown(call, params, {"text": "question 12", "max_tokens": 130, "order": "shortest"})
    assert both == sorted(
        (n for n in range(NUM_ROWS) if str(n).startswith("12") and lengths[n] <= 130), key=lambda n: (lengths[n], n)
    )
    flagged = call("rows", params, start=700, stop=701)["rows"][0]
    assert flagged["problems"] == ["no_trained_tokens"]


def _all(call: Caller, params: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for start in (0, 1000) for row in call("rows", params, start=start, stop=start + 1000)["rows"]]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"text": "(", "is_regex": True}, "no regular expression"),
        ({"order": "sideways"}, "cannot be asked for by sideways"),
        ({"colour": 1}, "colour"),
    ],
)
def test_queries_that_make_no_sense(rows_file: Path, query: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Caller()("select", params_of(rows_file), query=query)


def test_an_expression_that_would_take_years_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"input": "a" * 5000, "output": "b"}) + "\n")
    with pytest.raises(UsageError, match=r"rows\.jsonl:1: the regular expression takes too long"):
        Caller()("select", params_of(path), query={"text": r"(a|b|ab)*(?=c)(.*)*d|(a*)*(a*)*e", "is_regex": True})


def test_only_columns_that_are_shown_are_sent(tmp_path: Path) -> None:
    path = tmp_path / "wide.jsonl"
    row = {"prompt": "p", "completion": "c", **{f"column {n}": "x" * 500 for n in range(3000)}}
    path.write_text((json.dumps(row) + "\n") * 3)
    call, params = Caller(), params_of(path)
    cells = call("rows", params, start=0, stop=3, columns=["completion", "column 2999"])["rows"][2]["cells"]
    assert cells == {"completion": "c", "column 2999": "x" * 400}
    assert len(call("rows", params, start=0, stop=3)["rows"][0]["cells"]) == 40


def test_a_huge_row_comes_in_windows(tmp_path: Path) -> None:
    path = tmp_path / "huge.jsonl"
    text = "abcdefghij" * 30_000
    path.write_text(json.dumps({"messages": said("q", text)}) + "\n")
    call, params = Caller(), params_of(path, data={"max_length": 1 << 20})
    sample = call("sample", params, row=0)
    assert sample["num_tokens"] > 300_000
    assert len(sample["tokens"]) == len(sample["input_ids"]) == 8192
    assert sample["first"] == 0
    assert len(sample["raw"]) == 100_000
    assert sample["raw_characters"] > 300_000
    assert len(json.dumps(sample)) < 1_000_000
    more = call("tokens", params, row=0, start=200_000)
    assert more["first"] == 200_000
    assert len(more["tokens"]) == 8192
    ids = json.loads(call("whole", params, row=0, what="ids")["text"])
    assert len(ids) == sample["num_tokens"]
    assert ids[200_000:208_192] == more["input_ids"]
    assert json.loads(call("whole", params, row=0, what="record")["text"])["messages"][1]["content"] == text
    assert text in call("whole", params, row=0)["text"]
    assert len(call("rows", params, start=0, stop=1)["rows"][0]["cells"]["messages"]) == 400


def test_packed_rows_are_those_of_the_run(rows_file: Path) -> None:
    settings = {"data": {"packing": True, "max_length": 512}, "training": {"per_device_train_batch_size": 2}}
    call, params = Caller(), params_of(rows_file, **settings)
    before = call("batch", params, rows=[5, 6, 7])
    assert before["is_as_trained"] is False
    call("verdict", params)
    batch = call("batch", params, rows=[5, 6, 7])
    assert batch["is_as_trained"] is True
    assert batch["num_packed"] == 2
    assert "attention_mask" not in batch
    assert 5 in batch["rows"][0]
    assert batch["position_ids"][0].count(0) == len(batch["rows"][0])
    assert batch["length"] <= 1024


def test_paths_into_nested_columns(tmp_path: Path) -> None:
    path = tmp_path / "nested.jsonl"
    row = {"q": {"text": "why"}, "answers": [{"value": "so", "score": 1}], "id": None}
    path.write_text((json.dumps(row) + "\n") * 2)
    call = Caller()
    mapping = call("columns", params_of(path, data={"columns": {"prompt": "q.text", "completion": "answers.0.value"}}))
    assert mapping["format"] == "prompt_completion"
    paths = {item["path"]: (item["type"], item["example"]) for item in mapping["paths"]}
    assert paths["q.text"] == ("string", "why")
    assert paths["answers.0.value"] == ("string", "so")
    assert paths["id"] == ("null", "null")
    assert mapping["formats"]["alpaca"]["required"] == ["instruction", "output"]


def test_folders_are_listed_as_far_as_they_hold_data(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.csv.gz", "notes.py", ".hidden.jsonl"):
        (tmp_path / name).write_text("x")
    (tmp_path / "sub").mkdir()
    call = Caller()
    listing = call("list_folder", {"path": str(tmp_path)})
    assert [entry["name"] for entry in listing["entries"]] == ["sub", "a.csv.gz", "b.jsonl"]
    assert listing["is_whole"] is True
    assert call("list_folder", {"path": str(tmp_path / "nothing")})["entries"] == []


def test_every_token_of_a_row_in_pieces_can_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"text": "abcdefgh" * 50}) + "\n")
    call = Caller()
    whole = json.loads(call("whole", params_of(path, data={"max_length": 4096}), row=0, what="ids")["text"])
    params = params_of(path, data={"max_length": 64, "truncation": "split"})
    first = call("sample", params, row=0)
    assert first["num_pieces"] == -(-len(whole) // 64) > 2
    pieces = [call("sample", params, row=0, piece=piece) for piece in range(first["num_pieces"])]
    assert [piece["piece"] for piece in pieces] == list(range(len(pieces)))
    assert [index for piece in pieces for index in piece["input_ids"]] == whole
    assert call("tokens", params, row=0, start=10, piece=1)["input_ids"] == whole[74:128]
    assert json.loads(call("whole", params, row=0, what="ids", piece=2)["text"]) == whole[128:192]


def test_a_row_as_other_templates_have_it(rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}<<{{ m.content }}>>{% endfor %}")
    call, params = Caller(), params_of(rows_file)
    known = {item["name"]: item["source"] for item in call("templates", params)["templates"]}
    assert known.items() >= {"": "model", "chatml": "builtin", "mine.jinja": "file", "none": "none"}.items()
    own = call("sample", params, row=3)
    assert own == {**call("sample_as", params, row=3, template=""), "template": own["template"]}
    other = call("sample_as", params, row=3, template="mine.jinja")
    assert "".join(other["tokens"]).startswith("<<question 3>><<word")
    assert other["template"]["source"] == "file"
    assert call("sample", params, row=3) == own
    with pytest.raises(WorkbenchError, match="no chat template 'chatm'"):
        call("sample_as", params, row=3, template="chatm")
