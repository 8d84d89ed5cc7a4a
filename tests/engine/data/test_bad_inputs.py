"""Everything that can be wrong with a file or a row: a sentence that names the place, never a traceback."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.engine.data.helpers import run_config, said
from tui_trainer.engine.data.preview import preview_document
from tui_trainer.engine.data.samples import Samples
from tui_trainer.engine.data.session import DataSession
from tui_trainer.errors import DataError, WorkbenchError

GOOD = {"input": "question", "output": "answer"}


def line(row: Any) -> bytes:
    return json.dumps(row).encode() + b"\n"


def many(*bad: bytes) -> bytes:
    """Some bad lines between good ones."""
    return line(GOOD) * 20 + b"".join(bad) + line({**GOOD, "input": "another"}) * 20


def judged(path: Path, **data: Any) -> dict[str, Any]:
    session = DataSession(run_config(path, data=data))
    session.rows.count()
    return preview_document(session, 0, 100, is_whole=True)


def problem(document: dict[str, Any], code: str) -> dict[str, Any]:
    found = [entry for entry in document["verdict"]["problems"] if entry["code"] == code]
    assert found, [entry["code"] for entry in document["verdict"]["problems"]]
    entry: dict[str, Any] = found[0]
    return entry


ROWS: dict[str, tuple[bytes, str, str]] = {
    "broken line": (b'{"input": "a", "output"\n', "parse_error", "is not JSON"),
    "trailing comma": (b'{"input": "a", "output": "b",}\n', "parse_error", "is not JSON"),
    "key twice": (b'{"input": "a", "input": "b", "output": "c"}\n', "parse_error", "'input' twice"),
    "not an object": (b"[1, 2]\n", "schema", "is a list, not an object"),
    "latin-1": ('{"input": "caf\u00e9", "output": "b"}\n'.encode("latin-1"), "encoding", "0xe9"),
    "lone surrogate": (b'{"input": "a \\ud800", "output": "b"}\n', "encoding", "surrogate"),
    "nul": (b'{"input": "a \\u0000", "output": "b"}\n', "control_characters", "U+0000"),
    "escape sequence": (b'{"input": "a \\u001b[2J", "output": "b"}\n', "control_characters", "U+001B"),
    "nan": (b'{"input": "a", "output": NaN}\n', "schema", "output is a number"),
    "number": (b'{"input": "a", "output": 5}\n', "schema", "output is a number, not text"),
    "null": (b'{"input": "a", "output": null}\n', "null_field", "output is null"),
    "column missing": (b'{"inptu": "a", "output": "b"}\n', "schema", "has no column input"),
    "list for text": (b'{"input": ["a"], "output": {"b": 1}}\n', "schema", "is text, not a message"),
    "printed object": (
        b"{\"input\": \"[{'type': 'text', 'text': 'a'}]\", \"output\": \"b\"}\n",
        "schema",
        "printed Python",
    ),
    "empty answer": (b'{"input": "a", "output": "  "}\n', "empty_answer", "empty"),
    "nested too deeply": (
        b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b', "output": "b"}\n',
        "parse_error",
        "deep",
    ),
    "long number": (b'{"input": ' + b"1" * 5000 + b', "output": "b"}\n', "parse_error", "digits"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row_costs_itself_only(tmp_path: Path, name: str) -> None:
    bad, code, words = ROWS[name]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(many(bad))
    document = judged(path)
    verdict = document["verdict"]
    entry = problem(document, code)
    assert entry["rows"] == [20]
    assert f"row 20 ({path}:21)" in entry["message"]
    assert words in entry["message"]
    assert entry["remedy"]
    is_kept = code == "control_characters"
    assert verdict["num_rows"] == 41
    assert verdict["num_usable"] == 40 + is_kept
    assert not verdict["blocks_launch"]
    assert document["rows"][20]["usable"] == is_kept


CHATS: dict[str, tuple[Any, str, str]] = {
    "unknown role": ([{"role": "wizard", "content": "a"}], "schema", "unknown role 'wizard'"),
    "no assistant": (said("q"), "no_trained_tokens", "assistant says nothing"),
    "null content": ([*said("q"), {"role": "assistant", "content": None}], "null_field", "messages.1.content"),
    "no role": ([{"content": "a"}], "null_field", "has no role"),
    "image": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, *said("q", "a")[1:]],
        "unsupported_part",
        "type image_url",
    ),
    "not a list": (5, "schema", "a number, not a list of messages"),
    "no message": ([], "no_trained_tokens", "no message"),
    "no message object": (["hello"], "schema", "is text, not a message"),
    "printed list": ("[{'role': 'user'}]", "schema", "printed Python"),
    "empty answers": (said("q", "", "r", " "), "empty_answer", "every answer"),
    "two questions": ([said("q")[0], *said("q", "a")], "role_order", "message 1 is user after user"),
    "late system": ([*said("q", "a"), {"role": "system", "content": "s"}, *said("q", "a")], "role_order", "system"),
    "call without name": (
        [*said("q"), {"role": "assistant", "tool_calls": [{"function": {}}]}],
        "schema",
        "no function",
    ),
}


@pytest.mark.parametrize("name", CHATS)
def test_a_bad_conversation_costs_itself_only(tmp_path: Path, name: str) -> None:
    bad, code, words = CHATS[name]
    path = tmp_path / "rows.jsonl"
    good = b"".join(line({"messages": said(f"q{number}", f"a{number}")}) for number in range(20))
    path.write_bytes(good + line({"messages": bad}) + good)
    entry = problem(judged(path), code)
    assert entry["rows"] == [20]
    assert words in entry["message"]


FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.jsonl", b"", "is empty"),
    "blank lines": ("a.jsonl", b"\n  \n\n", "holds no rows"),
    "empty array": ("a.json", b"[]", "holds no rows"),
    "empty gzip": ("a.jsonl.gz", gzip.compress(b""), "nothing in it"),
    "html": ("a.jsonl", b"<!DOCTYPE html><html></html>", "is an HTML page"),
    "png": ("a.jsonl", b"\x89PNG\r\n\x1a\n" + bytes(50), "is a PNG image"),
    "lfs pointer": ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
    "zip": ("a.csv", b"PK\x03\x04" + bytes(50), "is a zip archive"),
    "utf-16": ("a.jsonl", line(GOOD).decode().encode("utf-16"), "is UTF-16 text"),
    "utf-16 without mark": ("a.jsonl", line(GOOD).decode().encode("utf-16-le"), "looks like UTF-16LE"),
    "utf-32": ("a.csv", "a,b\n1,2\n".encode("utf-32"), "is UTF-32 text"),
    "no json": ("a.json", b"hello world", "does not begin like JSON"),
    "broken parquet": ("a.parquet", b"PAR1" + bytes(100), "is broken parquet data"),
    "text as parquet": ("a.parquet", b"hello", "does not begin like parquet"),
    "broken arrow": ("a.arrow", b"ARROW1\x00\x00" + bytes(100), "is broken arrow data"),
    "foreign kind": ("a.bin", b"\x00\x01\x02 something", "of no kind that can be read"),
    "one broken value": ("a.json", b'{"data": [{"a": 1}, ', "is not JSON"),
    "script": ("a.py", b"raise SystemExit", "is a Python script"),
    "scalar": ("a.json", b"5", "does not begin like JSON"),
    "deep": ("a.json", b'{"data": ' + b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_named_with_its_reason(tmp_path: Path, name: str) -> None:
    file_name, content, words = FILES[name]
    path = tmp_path / file_name
    path.write_bytes(content)
    with pytest.raises(DataError) as found:
        DataSession(run_config(path))
    assert words in found.value.what
    assert str(path) in found.value.where
    assert found.value.exit_code == 2


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("/tmp/tui-trainer-was-here"),)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    marker = Path("/tmp/tui-trainer-was-here")
    marker.unlink(missing_ok=True)
    for name in ("a.pkl", "a.jsonl", "a.parquet"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(DataError, match="pickle"):
            DataSession(run_config(tmp_path / name))
    assert not marker.exists()


def test_a_torn_last_line_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(GOOD) * 30 + b'{"input": "a", "out')
    document = judged(path)
    assert problem(document, "parse_error")["rows"] == [30]
    assert document["verdict"]["num_usable"] == 30


def test_a_torn_array_leaves_what_is_before(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    text = json.dumps([GOOD] * 30)
    path.write_text(text[:-20])
    entry = problem(judged(path), "parse_error")
    assert entry["rows"] == [29]
    assert "the file ends in the middle" in entry["message"]
    path.write_text(text.replace('"answer"}]', '"answer" oops}, {"input": "lost", "output": "b"}]'))
    document = judged(path)
    assert "what lies behind it is lost" in problem(document, "parse_error")["message"]
    assert document["verdict"]["num_usable"] == 29


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([GOOD] * 100), path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="broken parquet"):
        DataSession(run_config(path))


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("input,output\n" + "a,b\n" * 30 + "a,b,c\n", "schema", "has 3 cells where the header has 2"),
        ("input,output\n" + "a,b\n" * 30 + "a\n", "schema", "has 1 cells"),
        ("input,output\n" + "a,b\n" * 30 + '"a,b\nc,d\n', "parse_error", "never closed"),
        ("input,output\n" + "a,b\n" * 30 + "a\x00,b\n", "control_characters", "U+0000"),
    ],
    ids=["more cells", "fewer cells", "open quote", "nul"],
)
def test_ragged_tables(tmp_path: Path, text: str, code: str, words: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    entry = problem(judged(path), code)
    assert entry["rows"] == [30]
    assert words in entry["message"]


def test_a_line_of_five_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(GOOD) * 3 + line({"input": "word " * 1_000_000, "output": "b"}) + line(GOOD))
    session = DataSession(run_config(path))
    assert session.rows.count() == 5
    document = Samples(session).document(3)
    assert document["truncated"]
    assert document["num_tokens"] == 1024


def test_too_long_a_line_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_trainer.engine.data.sources.json_lines.MAX_ROW_BYTES", 1 << 20)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(many(line({"input": "a" * (2 << 20), "output": "b"})))
    assert "is 2 MiB long" in problem(judged(path), "parse_error")["message"]


def test_a_prompt_longer_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(many(line({"input": "a" * 500, "output": "b" * 50})))
    lost = judged(path, max_length=100)
    assert problem(lost, "answer_cut")["rows"] == [20]
    assert problem(lost, "no_trained_tokens")["rows"] == [20]
    kept = judged(path, max_length=100, truncation="left")
    assert kept["rows"][20]["num_trained"] == 51
    assert problem(judged(path, max_length=100, truncation="drop"), "too_long_dropped")["rows"] == [20]
    refused = judged(path, max_length=100, truncation="error")
    assert refused["verdict"]["blocks_launch"]
    assert "too long" in refused["verdict"]["reason"]


def test_nothing_to_train_on_blocks(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line({"input": "a", "output": ""}) * 3)
    verdict = judged(path)["verdict"]
    assert verdict["blocks_launch"]
    assert verdict["num_trained_tokens"] == 0


def test_many_bad_rows_block(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(GOOD) * 8 + b"broken\n" * 2)
    verdict = judged(path)["verdict"]
    assert verdict["blocks_launch"]
    assert "2 of 10 rows (20%)" in verdict["reason"]


def test_hostile_names_and_values_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "rows \x1b[31m[red].jsonl"
    column = "in\x1b[2Jput [b]"
    path.write_bytes(line({column: "\x1b]52;c;aGk=\x07 [bold]x", "output": "answer"}) * 3)
    document = judged(path, columns={"prompt": column, "completion": "output"})
    assert "\x1b]52;c;aGk=\x07 [bold]x" in document["rows"][0]["text"]
    assert document["columns"]["prompt"] == column


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "template",
    ["{{ 'a' * 10 ** 10 }}", "{{ raise_exception('\x1b[31mno') }}", "{{ messages[0].nothing.more }}"],
    ids=["exploding", "raising", "breaking"],
)
def test_bad_templates_refuse_rows(tmp_path: Path, template: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(GOOD))
    (tmp_path / "bad.jinja").write_text(template)
    document = judged(path, template=str(tmp_path / "bad.jinja"))
    assert "the template says" in problem(document, "template_error")["message"]
    assert document["verdict"]["blocks_launch"]


def test_a_template_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_trainer.engine.data.templates.limits.RENDER_SECONDS", 0.2)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(GOOD))
    (tmp_path / "bad.jinja").write_text(ENDLESS)
    with pytest.raises(DataError, match=r"bad\.jinja: the template takes too long"):
        judged(path, template=str(tmp_path / "bad.jinja"))


def test_a_template_that_prints_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(GOOD))
    (tmp_path / "bad.jinja").write_text("{% set many = ['a' * 1000] * 3000 %}{{ many | join }}")
    with pytest.raises(DataError, match=r"prints 3,000,000 characters for a conversation of"):
        judged(path, template=str(tmp_path / "bad.jinja"))
    (tmp_path / "bad.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    path.write_bytes(line({"input": "a" * 1_100_000, "output": "b"}))
    assert judged(path, template=str(tmp_path / "bad.jinja"), truncation="left")["verdict"]["num_usable"] == 1


def test_a_template_that_never_ends_on_some_rows_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_trainer.engine.data.templates.limits.RENDER_SECONDS", 0.2)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(GOOD) * 200)
    (tmp_path / "bad.jinja").write_text("{% if messages[0].content == 'question' %}" + ENDLESS + "{% endif %}")
    document = judged(path, template=str(tmp_path / "bad.jinja"))
    entry = problem(document, "template_error")
    assert entry["count"] == 200
    assert "takes too long" in document["rows"][0]["problems"][0]["message"]
    assert "given up" in document["rows"][50]["problems"][0]["message"]


def test_a_device_is_no_dataset() -> None:
    with pytest.raises(WorkbenchError, match="neither a file nor a folder"):
        DataSession(run_config("/dev/zero"))


def test_judged_answers_are_not_followed_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    path.write_bytes(line(row) * 3)
    refused = judged(path)
    assert refused["format"] == "preference"
    assert refused["verdict"]["blocks_launch"]
    allowed = judged(path, allow_preference_as_sft=True)
    assert not allowed["verdict"]["blocks_launch"]
    assert [span["text"] for span in allowed["rows"][0]["spans"] if span["trained"]] == ["good<|im_end|>"]
    assert "bad" not in allowed["rows"][0]["text"]


def test_answers_judged_as_bad_are_never_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "q", "completion": f"answer {label}", "label": label} for label in (True, False)]
    path.write_bytes(b"".join(map(line, rows)) * 3)
    document = judged(path, allow_preference_as_sft=True)
    assert document["format"] == "kto"
    assert [row["usable"] for row in document["rows"]] == [True, False] * 3
    assert not document["verdict"]["blocks_launch"]
