"""Files and folders of every kind, opened as rows."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tui_trainer.config.data import SourceFields
from tui_trainer.engine.data.rows import BadRow, RowSource
from tui_trainer.engine.data.sources.opening import open_dataset, open_file
from tui_trainer.engine.data.sources.recognise import recognise
from tui_trainer.engine.data.sources.splits import select_split
from tui_trainer.errors import ConfigurationError, DataError

ROWS = [{"input": f"question {number} é 世界", "output": f"answer {number}"} for number in range(50)]


def opened(path: Path) -> RowSource:
    return open_file(recognise(path))


def lines(rows: list[dict[str, Any]] = ROWS) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def zstd(data: bytes) -> bytes:
    compressed = pa.Codec("zstd").compress(data)
    return bytes(compressed)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_json_lines_plain_and_compressed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data.jsonl{suffix}"
    path.write_bytes(COMPRESSIONS[suffix](lines().encode()))
    source = opened(path)
    assert source.rows(48, 60) == ROWS[48:]
    assert source.rows(0, 2) == ROWS[:2]
    assert source.count() == 50
    assert source.features == {"input": "string", "output": "string"}


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_json_arrays_plain_and_compressed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data.json{suffix}"
    path.write_bytes(COMPRESSIONS[suffix](json.dumps(ROWS, ensure_ascii=False, indent=1).encode()))
    source = opened(path)
    assert source.rows(10, 12) == ROWS[10:12]
    assert source.count() == 50


def test_blank_lines_marks_and_line_ends_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n   \n{"a": 2}\n\n{"a": 3}')
    source = opened(path)
    assert source.rows(0, 9) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert source.count() == 3
    assert [source.where(row) for row in range(3)] == [f"{path}:1", f"{path}:4", f"{path}:6"]


def _read_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred bytes at a time, so that small files have many chunks."""
    for name in ("content.CHUNK_BYTES", "content.FIRST_CHUNK_BYTES", "lines._CHUNK_BYTES"):
        monkeypatch.setattr(f"tui_trainer.engine.data.sources.{name}", 100)


def test_rows_are_reached_over_many_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _read_little(monkeypatch)
    text = lines().replace("\n", "\n\n")
    for name, content in (("a.jsonl", text), ("a.json", json.dumps(ROWS)), ("a.txt", text.replace("\n\n", "\n"))):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        source = opened(path)
        assert source.rows(31, 33) == ROWS[31:33]
        assert source.rows(3, 4) == ROWS[3:4]
        assert source.count() == 50
        assert source.rows(0, 99) == ROWS


JSON_SHAPES: dict[str, Any] = {
    "data": {"version": 1, "data": ROWS},
    "records": ROWS,
    "split": {"columns": ["input", "output"], "index": [0], "data": [list(row.values()) for row in ROWS]},
    "index": {str(number): row for number, row in enumerate(ROWS)},
    "columns": {name: {str(number): row[name] for number, row in enumerate(ROWS)} for name in ("input", "output")},
    "lists": {name: [row[name] for row in ROWS] for name in ("input", "output")},
    "values": None,
    "table": {"schema": {"fields": []}, "data": ROWS},
}


@pytest.mark.parametrize("shape", JSON_SHAPES)
def test_shapes_of_json(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "data.json"
    value = [list(row.values()) for row in ROWS] if shape == "values" else JSON_SHAPES[shape]
    path.write_text(json.dumps(value), encoding="utf-8")
    rows = opened(path).rows(0, 99)
    expected = [dict(zip(("column_0", "column_1"), row.values(), strict=True)) for row in ROWS]
    assert rows == (expected if shape == "values" else ROWS)


def test_objects_one_after_another(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text("".join(json.dumps(row, indent=2) + "\n" for row in ROWS), encoding="utf-8")
    assert opened(path).rows(0, 99) == ROWS


@pytest.mark.parametrize("name", ["data.json", "data.txt", "data.jsonl"])
def test_json_lines_under_another_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(lines(), encoding="utf-8")
    assert opened(path).rows(0, 99) == ROWS


def test_an_array_named_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(ROWS), encoding="utf-8")
    assert opened(path).rows(0, 99) == ROWS


TABLES = {
    "comma.csv": 'input,output\n"a, with ""quotes""\nand a line",b\nc,d\n',
    "semicolon.csv": '\ufeffinput;output\n"a, with ""quotes""\nand a line";b\nc;d\n',
    "crlf.csv": 'input,output\r\n"a, with ""quotes""\nand a line",b\r\nc,d\r\n',
    "tab.tsv": 'input\toutput\n"a, with ""quotes""\nand a line"\tb\nc\td\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(TABLES[name], encoding="utf-8", newline="")
    source = opened(path)
    assert source.count() == 2
    assert source.rows(1, 2) == [{"input": "c", "output": "d"}]
    assert source.rows(0, 1) == [{"input": 'a, with "quotes"\nand a line', "output": "b"}]
    assert source.where(1) == f"{path}:4"


def test_a_table_without_header(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_text('How many "eggs" are there?\t18\nAnd now?\t3\n', encoding="utf-8")
    assert opened(path).rows(0, 9) == [
        {"column_0": 'How many "eggs" are there?', "column_1": "18"},
        {"column_0": "And now?", "column_1": "3"},
    ]


def test_three_thousand_columns(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    names = [f"c{number}" for number in range(3000)]
    path.write_text(",".join(names) + "\n" + ",".join(["x"] * 3000) + "\n")
    source = opened(path)
    assert source.rows(0, 1) == [dict.fromkeys(names, "x")]
    assert len(source.features) == 3000


def test_lines_passages_and_documents(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("anna\nben\n")
    assert opened(names).rows(0, 9) == [{"text": "anna"}, {"text": "ben"}]
    poems = tmp_path / "poems.txt"
    poems.write_text("one\ntwo\n\n\nthree\n \nfour", encoding="utf-8")
    source = opened(poems)
    assert source.rows(0, 9) == [{"text": "one\ntwo"}, {"text": "three"}, {"text": "four"}]
    assert source.count() == 3
    assert source.rows(2, 3) == [{"text": "four"}]
    document = tmp_path / "page.md"
    document.write_text("# Title\n\nText\n")
    assert opened(document).rows(0, 9) == [{"text": "# Title\n\nText\n"}]


NESTED = [
    {"messages": [{"role": "user", "content": "q", "tool_calls": None}, {"role": "assistant", "content": "a"}]},
    {"messages": [{"role": "user", "content": "r"}, {"role": "assistant", "content": "b", "weight": 1}]},
]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_parquet_and_arrow(tmp_path: Path, suffix: str) -> None:
    table = pa.Table.from_pylist(NESTED)
    pq.write_table(table, tmp_path / "data.parquet", row_group_size=1)
    with pa.OSFile(str(tmp_path / "file.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    with pa.OSFile(str(tmp_path / "stream.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    for name in ("data.parquet", "file.arrow", "stream.arrow"):
        packed = tmp_path / f"{name}{suffix}"
        packed.write_bytes(COMPRESSIONS[suffix]((tmp_path / name).read_bytes()))
        source = opened(packed)
        assert source.num_rows == 2
        assert source.rows(1, 9) == [NESTED[1]]
        first = source.rows(0, 1)[0]
        assert isinstance(first, dict)
        assert first["messages"][0] == {"role": "user", "content": "q"}, "nulls of other rows' keys are no keys"


def dataset(path: Path | str, **fields: Any) -> dict[str, RowSource]:
    return open_dataset(SourceFields(path=str(path), **fields)).splits


def test_a_folder_keeps_its_splits(tmp_path: Path) -> None:
    folder = tmp_path / "my data [1] 数据"
    folder.mkdir()
    for name in ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "eval.jsonl", "test.jsonl.gz"):
        data = lines(ROWS[:5]).encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (folder / "README.md").write_text("about")
    (folder / "notes.txt").write_text("about")
    splits = dataset(folder)
    assert {name: source.count() for name, source in splits.items()} == {"train": 10, "validation": 5, "test": 5}
    assert splits["train"].where(7).endswith("train-00001-of-00002.jsonl:3")
    assert splits["train"].rows(4, 6) == [ROWS[4], ROWS[0]]


def test_a_json_object_keeps_its_splits(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(
        json.dumps({"train": ROWS[:8], "val": ROWS[8:11], "test": [*ROWS[:1], 7], "notes": ["none"]}, indent=1)
    )
    splits = dataset(path)
    assert {name: source.count() for name, source in splits.items()} == {"train": 8, "validation": 3, "test": 2}
    assert splits["validation"].rows(0, 9) == ROWS[8:11]
    assert isinstance(splits["test"].rows(1, 2)[0], BadRow)
    assert splits["validation"].where(2) == f"{path}[validation]: row 2"
    assert len({source.fingerprint for source in splits.values()}) == 3
    chat = tmp_path / "chat.json"
    chat.write_text(
        json.dumps({"train": [{"role": "user", "content": "q"}], "test": [{"role": "user", "content": "q"}]})
    )
    assert list(dataset(chat)) == ["train"]


def test_files_of_a_folder_by_pattern(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl", "c.csv"):
        (tmp_path / name).write_text(lines(ROWS[:2]) if name != "c.csv" else "input,output\nx,y\n")
    assert dataset(tmp_path, data_files="a*")["train"].count() == 2
    assert dataset(tmp_path, data_files=["a.jsonl", "b.jsonl"])["train"].count() == 4
    with pytest.raises(DataError, match=r"no file that matches z\*"):
        dataset(tmp_path, data_files="z*")


def test_saved_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(ROWS)
    made.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": made, "test": made.select(range(3))}).save_to_disk(str(tmp_path / "both"))
    assert dataset(tmp_path / "one")["train"].rows(0, 99) == ROWS
    both = dataset(tmp_path / "both")
    assert {name: source.num_rows for name, source in both.items()} == {"train": 50, "test": 3}
    mixed = datasets.Dataset.from_dict({"m": [[{"b": 0}, {"c": "x"}]]}, on_mixed_types="use_json")
    mixed.save_to_disk(str(tmp_path / "json"))
    assert dataset(tmp_path / "json")["train"].rows(0, 1) == [{"m": [{"b": 0}, {"c": "x"}]}]
    (tmp_path / "one" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(DataError, match="lacks the file data-00000"):
        dataset(tmp_path / "one")


def test_link_loops_and_dangling_links(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_text(lines(ROWS[:3]))
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "notes").symlink_to(tmp_path / "nowhere")
    assert dataset(tmp_path / "data")["train"].count() == 3
    (tmp_path / "data" / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"lacks the data file gone\.jsonl: its link leads nowhere"):
        dataset(tmp_path / "data")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(DataError, match="is a link that leads back to itself"):
        dataset(loop)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "a.jsonl").symlink_to(tmp_path / "nowhere")
    (empty / "load.py").write_text("raise SystemExit")
    with pytest.raises(DataError, match=r"a\.jsonl: its link leads nowhere"):
        dataset(empty)
    (empty / "a.jsonl").unlink()
    with pytest.raises(DataError, match=r"holds no data files; its script load\.py is not run"):
        dataset(empty)


def test_shards_that_have_nothing_in_common(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"y": 1}\n')
    with pytest.raises(DataError, match="share no column"):
        dataset(tmp_path)


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(lines())
    with pytest.raises(DataError, match=r"Did you mean .*rows\.jsonl"):
        dataset(tmp_path / "row.jsonl")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("train", list(range(50))),
        ("train[:10%]", list(range(5))),
        ("train[-3:]", [47, 48, 49]),
        ("train[10:12]", [10, 11]),
        ("train[90%:]+train[:2]", [45, 46, 47, 48, 49, 0, 1]),
        ("train[60:70]", []),
    ],
)
def test_slices(tmp_path: Path, wanted: str, expected: list[int]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(), encoding="utf-8")
    source = select_split(dataset(path), wanted, "rows")
    assert source.rows(0, 99) == [ROWS[number] for number in expected]
    assert source.count() == len(expected)
    if expected:
        assert source.where(len(expected) - 1) == f"{path}:{expected[-1] + 1}"


def test_a_slice_reads_no_further_than_it_reaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _read_little(monkeypatch)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(lines() for _ in range(100)), encoding="utf-8")
    splits = dataset(path)
    source = select_split(splits, "train[2:500]", "rows")
    assert source.rows(0, 3) == ROWS[2:5]
    assert source.count() == 498
    assert source.num_rows == 498
    assert splits["train"].num_rows is None
    assert select_split(splits, "train[4990:9000]", "rows").count() == 10


def test_wrong_splits_name_the_right_ones(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="its splits are train"):
        select_split(dataset(path), "test", "rows")
    with pytest.raises(ConfigurationError, match="no split or slice"):
        select_split(dataset(path), "train[1:2", "rows")


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(), encoding="utf-8")
    before = opened(path).fingerprint
    moved = path.rename(tmp_path / "moved.jsonl")
    assert opened(moved).fingerprint == before
    moved.write_text(lines(ROWS[1:]), encoding="utf-8")
    assert opened(moved).fingerprint != before


def test_a_file_cut_while_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _read_little(monkeypatch)
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(), encoding="utf-8")
    source = opened(path)
    source.count()
    os.truncate(path, 200)
    with pytest.raises(DataError, match="became shorter"):
        source.rows(40, 41)


def test_rows_before_a_break_of_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    data = gzip.compress(lines([{"text": os.urandom(40).hex()} for _ in range(3000)]).encode())
    path.write_bytes(data[: len(data) // 2])
    source = opened(path)
    rows = source.rows(0, 5000)
    assert len(rows) > 500
    assert all(isinstance(row, dict) for row in rows[:-1])
    assert isinstance(rows[-1], BadRow)
    assert "gzip data ends early" in rows[-1].message


def test_a_large_row_group_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui_trainer.engine.data.sources import arrow

    monkeypatch.setattr(arrow, "_MAX_PIECE_BYTES", 4096)
    rows = [{"text": f"row {number} " + "x" * 50, "tags": ["a"] * (number % 3)} for number in range(1000)]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=700, use_dictionary=False)
    source = opened(path)
    pieces = source._groups.sizes  # type: ignore[attr-defined]
    assert len(pieces) > 10
    assert sum(pieces) == source.num_rows == 1000
    assert list(source.rows(0, 1000)) == rows
    for start in (900, 650, 3, 699, 400):
        assert list(source.rows(start, start + 5)) == rows[start : start + 5]
    # what was passed by once is not unpacked again
    monkeypatch.delattr(pq.ParquetFile, "iter_batches")
    for start in (650, 3, 400, 640):
        assert list(source.rows(start, start + 5)) == rows[start : start + 5]


def test_names_with_blanks_brackets_and_chinese(tmp_path: Path) -> None:
    names = ["[v1] my rows.jsonl", "名前 {x}.jsonl", "a+b 100%.jsonl"]
    for number, name in enumerate(names):
        (tmp_path / name).write_text(f'{{"text": "row {number}"}}\n', encoding="utf-8")
    for number, name in enumerate(names):
        expected = [{"text": f"row {number}"}]
        assert list(opened(tmp_path / name).rows(0, 2)) == expected
        fields = SourceFields(path=str(tmp_path), data_files=name)
        assert list(open_dataset(fields).splits["train"].rows(0, 2)) == expected
    everything = open_dataset(SourceFields(path=str(tmp_path))).splits["train"]
    assert everything.count() == 3
