"""Files that are not what their name says: `preview`, `check` and training say the same of them and exit alike."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.engine.data.helpers import run_config, said
from tui_trainer.engine.data.prepare import prepare_data
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.errors import ExitCode, WorkbenchError

ROWS = [{"input": f"question {number}", "output": f"answer {number}"} for number in range(2000)]
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS).encode()
MODEL = """
[model]
tokenizer_name_or_path = "builtin:bytes"
from_scratch = {model_type = "llama", hidden_size = 32, intermediate_size = 64, num_hidden_layers = 1, num_attention_heads = 4}
[training]
use_cpu = true
max_steps = 2
"""  # noqa: E501 - a TOML table of one line


def arrow(kind: str, rows: int = 2000) -> bytes:
    """Rows as an Arrow file or stream, in batches of 500."""
    sink = io.BytesIO()
    table = pa.Table.from_pylist(ROWS[:rows])
    with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=500)
    return sink.getvalue()


def broken_parquet() -> bytes:
    """Twenty groups of rows, one of them damaged."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=100, compression="snappy")
    data = bytearray(sink.getvalue())
    middle = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(7).column(0).data_page_offset
    data[middle : middle + 60] = b"\xff" * 60
    return bytes(data)


def link(path: Path, target: str) -> None:
    path.symlink_to(target)


def shards(folder: Path) -> None:
    """Two files of a split, one of them a link that leads nowhere."""
    folder.mkdir()
    (folder / "train-1.jsonl").write_bytes(LINES)
    link(folder / "train-2.jsonl", "gone.jsonl")


REFUSED: dict[str, tuple[str, Any, str]] = {
    "empty": ("a.jsonl", b"", "is empty"),
    "nothing but NUL": ("a.jsonl", bytes(5000), "nothing but NUL bytes"),
    "html": ("a.parquet", b"<!doctype html>\n<html>", "is an HTML page"),
    "png": ("a.csv", b"\x89PNG\r\n\x1a\n" + bytes(9), "is a PNG image"),
    "lfs pointer": ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    "pickle by its name": ("a.pkl", b"cos\nsystem\n", "is a Python pickle, which is never opened"),
    "script": ("a.py", b"import datasets\n", "loading scripts are never run"),
    "utf-16": ("a.txt", "hello\n".encode("utf-16"), "is UTF-16 text"),
    "only a header": ("a.csv", b"input,output\n", "holds no rows"),
    "unknown": ("a.yaml", b"a: 1\n", "of no kind that can be read"),
    "footer lost": ("a.parquet", b"PAR1" + bytes(500), "is broken parquet data"),
    "loop": ("a.jsonl", lambda path: link(path, path.name), "is a link that leads back to itself"),
    "dangling": ("a.jsonl", lambda path: link(path, "gone.jsonl"), "is a link to gone.jsonl, which is not there"),
    "shard gone": ("folder", shards, "lacks the data file train-2.jsonl: its link leads nowhere"),
    "pickle in a zip": ("a.pt", b"PK\x03\x04" + bytes(99), "is a Python pickle, which is never opened"),
    "broken gzip": ("a.jsonl.gz", gzip.compress(LINES)[:10] + bytes(200), "broken from its start"),
    "deep array": ("a.json", b"[" * 9000, "is nested too deeply"),
    "pipe": ("a.jsonl", lambda path: os.mkfifo(path), "is neither a file nor a folder"),
    "empty folder": ("folder", lambda path: path.mkdir(), "holds no data files"),
}

BLOCKED: dict[str, tuple[str, bytes, str]] = {
    "many broken lines": ("a.jsonl", LINES[:200] + b"{broken\n" * 5, "are of no use"),
    "3,000 columns": (
        "a.csv",
        (",".join(f"c{n}" for n in range(3000)) + "\n" + ",".join("x" * 3000) + "\n").encode(),
        "no token of any row would be trained",
    ),
    "an error for data": ("a.jsonl", b'{"error": 404, "message": null}\n', "no token of any row would be trained"),
    "nobody answers": ("a.jsonl", b'{"messages": [{"role": "user", "content": "q"}]}\n' * 3, "no token of any row"),
}

USABLE: dict[str, tuple[str, bytes, int, str, str]] = {
    "begins broken": ("a.jsonl", b"{broken\n" * 70 + LINES, 2000, "parse_error", "is not JSON"),
    "torn gzip": ("a.jsonl.gz", gzip.compress(LINES)[:-300], 100, "parse_error", "the gzip data ends early"),
    "torn arrow stream": ("a.arrow", arrow("stream")[:-300], 1500, "parse_error", "this row is broken"),
    "torn arrow file": ("a.arrow", arrow("file")[:-40_000], 500, "parse_error", "this row is broken"),
    "damaged parquet": ("a.parquet", broken_parquet(), 1900, "parse_error", "rows 700 to 799 are broken"),
    "json under another name": ("a.csv", LINES, 2000, "", ""),
    "parquet under another name": ("a.jsonl", broken_parquet(), 1900, "parse_error", "rows 700 to 799 are broken"),
    "table under another name": ("a.json", b"question;answer\nhow?;so\nwhy?;because\n", 2, "", ""),
    "no header": ("a.tsv", b"What is two and two?\t4\nAnd three?\t5\n", 2, "", ""),
    "latin-1": ("a.csv", b"input,output\n" + b"a,b\n" * 30 + b"caf\xe9,b\n", 30, "encoding", "looks like Latin-1"),
    "deep": ("a.jsonl", LINES + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n", 2000, "parse_error", "nested too deep"),
    "lone surrogate as a key": ("a.jsonl", LINES + b'{"in\\ud800": "a"}\n', 2000, "schema", "has no column input"),
}

Call = Callable[..., Any]


def made(folder: Path, name: str, content: Any) -> tuple[Path, Path]:
    """The file, and a configuration that names it."""
    path = folder / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    config = folder / "run.toml"
    config.write_text(f'name = "trial"\n[data]\npath = {json.dumps(str(path))}\n{MODEL}')
    return path, config


def trained(path: Path) -> Any:
    """What a run makes of the file, or the error it ends with."""
    try:
        return prepare_data(run_config(path), bytes_tokenizer())
    except WorkbenchError as error:
        return error


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_data_is_named_alike(tmp_path: Path, call: Call, name: str) -> None:
    file, content, words = REFUSED[name]
    path, config = made(tmp_path, file, content)
    shown, checked, error = call("preview", str(path)), call("check", str(config), "--json"), trained(path)
    assert (shown.code, checked.code, error.exit_code) == (ExitCode.USAGE,) * 3
    (found,) = checked.json()["errors"]
    assert words in shown.err.replace("\n", " ")
    assert words in found["what"] == error.what
    assert found["where"] == error.where == str(path)
    assert error.remedy, "does not say what to do"


@pytest.mark.parametrize("name", BLOCKED)
def test_what_cannot_be_trained_on_is_refused_alike(tmp_path: Path, call: Call, name: str) -> None:
    path, config = made(tmp_path, *BLOCKED[name][:2])
    shown, checked, error = (
        call("preview", str(path), "--all", "--json"),
        call("check", str(config), "--json"),
        trained(path),
    )
    assert (shown.code, checked.code, error.exit_code) == (ExitCode.USAGE,) * 3
    reason = shown.json()["verdict"]["reason"]
    assert BLOCKED[name][2] in reason == checked.json()["data"]["verdict"]["reason"]
    assert reason in error.what
    assert f"{path}:" in error.what, "names no row"


@pytest.mark.parametrize("name", USABLE)
def test_whole_rows_stay_usable(tmp_path: Path, call: Call, name: str) -> None:
    file, content, least, code, words = USABLE[name]
    path, config = made(tmp_path, file, content)
    shown, checked = call("preview", str(path), "--all", "--json"), call("check", str(config), "--json")
    assert (shown.code, checked.code) == (ExitCode.DONE, ExitCode.DONE)
    verdict = shown.json()["verdict"]
    assert verdict["num_usable"] >= least
    assert verdict["num_usable"] == checked.json()["data"]["verdict"]["num_usable"] == trained(path).num_rows
    found = {problem["code"]: problem["message"] for problem in verdict["problems"]}
    if code:
        assert words in found[code]
        assert str(path) in found[code]
    assert not {"parse_error", "schema", "encoding"} - {code} & found.keys()


def test_what_is_torn_between_two_lines_is_said_too(tmp_path: Path, call: Call) -> None:
    for name in ("rows.jsonl.gz", "rows.txt.gz", "rows.csv.gz"):
        text = LINES if "jsonl" in name else b"input,output\n" + b"a,b\n" * 500 if "csv" in name else b"line\n" * 500
        (tmp_path / name).write_bytes(gzip.compress(text, mtime=0)[:-8])
        (problem,) = (
            entry
            for entry in call("preview", str(tmp_path / name), "--all", "--json").json()["verdict"]["problems"]
            if entry["code"] == "parse_error"
        )
        assert "the gzip data ends early; what lies behind it is lost" in problem["message"], name


def test_what_the_screen_escapes_is_trained_on_as_it_is(tmp_path: Path, call: Call) -> None:
    nasty = "\x1b]0;owned\x07 [bold red]x[/] \u202eevil"
    path = tmp_path / f"[red]{nasty[:4]}名前.jsonl"
    path.write_text(json.dumps({"messages": said(nasty, "fine")}) + "\n")
    shown = call("preview", str(path))
    assert shown.code == ExitCode.DONE
    assert not set("\x1b\x07\u202e") & set(shown.out + shown.err)
    assert "[bold red]x[/]" in shown.out
    assert nasty in bytes_tokenizer().decode(trained(path).train[0]["input_ids"])
