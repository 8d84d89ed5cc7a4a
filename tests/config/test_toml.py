"""Reading TOML with the line of every key, and writing it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tui_trainer.config.toml import dump_toml, parse_document, read_document
from tui_trainer.errors import ConfigurationError, UsageError

NASTY = '''\
# name = "not this"
name = "run" # = [still] "a comment"

[ training ]          # a header with spaces
learning_rate = 2e-4
"quoted.key" = 1
'literal' = 2
text = """
[not.a.table]
key = "inside"
"""
other = \'\'\'
x = 1 # no comment
\'\'\'
list = [
  1, # one
  { a = 1, b = [2, 3] },
]
after = true
[model.from_scratch]
hidden_size = 96
nested.deep.er = 1

[[data.sources]]
path = "a"
[data.sources.columns]
prompt = "q"
[[data.sources]]
path = "b # not a comment"
url = "https://example.org/[x]={y}"

[lora]
escaped = "a \\" b = 1 \\\\"
last = 1'''

LINES: dict[tuple[str | int, ...], int] = {
    ("name",): 2,
    ("training",): 4,
    ("training", "learning_rate"): 5,
    ("training", "quoted.key"): 6,
    ("training", "literal"): 7,
    ("training", "text"): 8,
    ("training", "other"): 12,
    ("training", "list"): 15,
    ("training", "after"): 19,
    ("model", "from_scratch"): 20,
    ("model", "from_scratch", "hidden_size"): 21,
    ("model", "from_scratch", "nested", "deep", "er"): 22,
    ("data", "sources", 0): 24,
    ("data", "sources", 0, "path"): 25,
    ("data", "sources", 0, "columns"): 26,
    ("data", "sources", 0, "columns", "prompt"): 27,
    ("data", "sources", 1): 28,
    ("data", "sources", 1, "path"): 29,
    ("data", "sources", 1, "url"): 30,
    ("lora",): 32,
    ("lora", "escaped"): 33,
    ("lora", "last"): 34,
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_key_of_a_nasty_file_has_its_line(newline: str) -> None:
    document = parse_document(NASTY.replace("\n", newline), "nasty.toml")
    found = {key: document.where(key) for key in LINES}
    assert found == {key: f"nasty.toml:{line}" for key, line in LINES.items()}


def test_every_line_found_is_the_line_of_that_key() -> None:
    """No key of the file is missing, and none is made up."""
    document = parse_document(NASTY, "nasty.toml")
    assert set(document.lines) == set(LINES)


def test_a_key_without_a_line_is_where_its_table_is() -> None:
    document = parse_document("[a]\nb = { c = 1 }\n", "f")
    assert document.where(("a", "b", "c")) == "f:2"
    assert document.where(("a", "x")) == "f:1"
    assert document.where(("x",)) == "f"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a = ", "f.toml:1"),
        ("a = 1\nb = [1,\n", "f.toml:3"),
        ("a = 1\na = 2\n", "f.toml:2"),
        ("[a]\n[a]\n", "f.toml:2"),
        ("a = 1 2\n", "f.toml:1"),
        ('a = "open\n', "f.toml:1"),
        ("= 1", "f.toml:1"),
    ],
)
def test_broken_toml_is_located(text: str, where: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_document(text, "f.toml")
    assert caught.value.where.startswith(where)
    assert caught.value.what.startswith("is not valid TOML: ")
    assert "(at" not in caught.value.what
    assert caught.value.remedy


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    with pytest.raises(ConfigurationError):
        parse_document("a = " + "[" * 100_000 + "]" * 100_000, "f")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    latin = tmp_path / "latin.toml"
    latin.write_bytes("name = 'fünf'".encode("latin-1"))
    for path, kind, what in (
        (tmp_path / "none.toml", UsageError, "no such file"),
        (latin / "below.toml", UsageError, "no such file"),
        (tmp_path / "folder", UsageError, "is a folder"),
        (latin, ConfigurationError, "is not UTF-8 text (byte 9)"),
    ):
        with pytest.raises(kind) as caught:
            read_document(path)
        assert what in caught.value.what
        assert str(path) in caught.value.where


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bom.toml"
    path.write_bytes(b"\xef\xbb\xbfname = 'x'\r\n")
    document = read_document(path)
    assert document.tree == {"name": "x"}
    assert document.where(("name",)) == f"{path}:1"


TREES: list[dict[str, Any]] = [
    {},
    {"name": "x", "model": {"name_or_path": "a", "from_scratch": {"hidden_size": 96, "deep": {"er": [1, 2.5]}}}},
    {"data": {"sources": [{"path": "a", "weight": 2.0, "columns": {"prompt": "q"}}, {"path": "b"}], "packing": True}},
    {"sampling": {"prompts": ['quote " and \\ and \n newline', "日本 🎉", "\t\x1b\x7f"], "stop_token_ids": [1, 2]}},
    {"training": {"learning_rate": 1e-05, "adam_epsilon": 1e-8, "fsdp_config": {"a b": {"c.d": False}}}},
    {"launch": {"env": {"A": "1", "PATH_LIKE": "/a:b"}, "slurm_options": {"gpus-per-node": 8}}},
]


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_what_is_written_is_what_is_read(tree: dict[str, Any]) -> None:
    assert parse_document(dump_toml(tree), "f").tree == tree


def test_what_is_unset_is_not_written() -> None:
    tree: dict[str, Any] = {
        "a": None,
        "s": {"b": None, "c": 1, "empty": [], "none": {}, "t": {"d": None, "e": 2}},
        "nothing": {},
    }
    assert parse_document(dump_toml(tree), "f").tree == {"s": {"c": 1, "t": {"e": 2}}}
