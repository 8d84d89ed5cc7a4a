"""`tui-trainer preview` and `check`: their documents, their text, their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tui_trainer.cli.app import run

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    from tui_trainer.cli import output

    def caller(*words: str) -> tuple[int, str, str]:
        output.talk.cache_clear()
        output.paper.cache_clear()
        code = run(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return caller


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"input": f"question {n}", "output": f"answer {n}"} for n in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_document(call: Call, rows_file: Path) -> None:
    code, out, _ = call("preview", str(rows_file), "--json", "--rows", "2:4", "--all")
    document = json.loads(out)
    assert code == 0
    assert [row["row"] for row in document["rows"]] == [2, 3]
    assert document["verdict"]["num_rows"] == 10
    assert document["columns"] == {"prompt": "input", "completion": "output"}
    trained = [span["text"] for span in document["rows"][0]["spans"] if span["trained"]]
    assert trained == ["answer 2<|im_end|>"]


def test_the_heading_names_format_and_columns_of_each_source(call: Call, rows_file: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("one\n\ntwo\n")
    _, alone, _ = call("preview", str(texts))
    assert f"{texts}: train 2 rows\nformat text (text = text) · no template · fingerprint" in alone
    _, mixed, _ = call("preview", str(rows_file), str(texts))
    assert f"{rows_file}: train 10 rows · format prompt_completion (prompt = input, completion = output)\n" in mixed
    assert f"{texts}: train 2 rows · format text (text = text)\ntemplate builtin:bytes (model) · fingerprint" in mixed


def test_every_option_counts(call: Call, rows_file: Path, tmp_path: Path) -> None:
    def rows(*options: str) -> Any:
        code, out, err = call("preview", str(rows_file), "--json", "--rows", "0", *options)
        assert code == 0, err
        return json.loads(out)

    swapped = rows("--map", "prompt=output", "--map", "completion=input")
    assert swapped["columns"] == {"prompt": "output", "completion": "input"}
    assert rows("--format", "text", "--map", "text=input", "--stage", "pretrain")["rows"][0]["text"] == "question 0"
    assert rows("--train-on", "all")["rows"][0]["labels"][1:] == rows()["rows"][0]["input_ids"][1:]
    assert rows("--max-length", "30", "--truncation", "left")["rows"][0]["truncated"]
    assert rows("--template", "plain")["template"] == {**rows("--template", "plain")["template"], "source": "builtin"}
    (tmp_path / "own.jinja").write_text("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    assert (
        rows("--template", str(tmp_path / "own.jinja"))["rows"][0]["text"] == "question 0<|im_end|>answer 0<|im_end|>"
    )
    assert rows("--split", "train[5:]")["rows"][0]["text"] == rows()["rows"][0]["text"].replace(" 0", " 5")
    assert (
        json.loads(call("preview", str(rows_file), str(rows_file), "--json", "--all")[1])["verdict"]["num_rows"] == 20
    )


def test_text_for_people_shows_the_mask(call: Call, rows_file: Path) -> None:
    code, out, err = call("preview", str(rows_file), "--rows", "0:1")
    assert code == 0
    assert "▌answer 0<|im_end|>▐" in out
    assert "1 row judged · 1 usable" in out
    assert "no --model" in err


def test_hostile_text_is_made_visible(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"input": "a\x1b]52;c;aGk=\x07 [red]", "output": "\x1b[2Jb"}) + "\n")
    code, out, _ = call("preview", str(path))
    assert code == 0
    assert "\x1b" not in out
    assert "[red]" in out
    document = json.loads(call("preview", str(path), "--json")[1])
    assert "\x1b]52;c;aGk=\x07 [red]" in document["rows"][0]["text"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("missing.jsonl",), 2, "there is no such file"),
        (("{rows}", "--split", "test"), 2, "its splits are train"),
        (("{rows}", "--format", "alpaka"), 2, "data.format"),
        (("{rows}", "--map", "prompt"), 2, "ROLE=COLUMN"),
        (("{rows}", "--map", "prompt=x", "--map", "completion=output"), 2, "has a column 'x'"),
        (("{rows}", "--rows", "b"), 2, "is no range"),
        (("{rows}", "--template", "chatlm"), 2, "did you mean chatml"),
        (("{rows}", "--max-length", "1"), 2, "data.max_length"),
        (("{rows}", "--model", "./nowhere"), 2, "there is no model"),
    ],
)
def test_wrong_use_is_said_in_a_sentence(
    call: Call, rows_file: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    found, out, err = call("preview", *(word.format(rows=rows_file) for word in words))
    assert found == code
    assert message in err
    assert "Traceback" not in err
    assert not out


def test_data_of_no_use_has_exit_code_2(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input": "q", "output": ""}\n')
    code, out, _ = call("preview", str(path), "--json", "--all")
    assert code == 2
    assert json.loads(out)["verdict"]["blocks_launch"]


CONFIG = """
[model]
tokenizer_name_or_path = "builtin:bytes"
from_scratch = {{ model_type = "llama", hidden_size = 32, num_hidden_layers = 1, num_attention_heads = 2, \
intermediate_size = 64 }}
[data]
path = "{rows}"
eval_split = 0.2
[training]
per_device_train_batch_size = 4
num_train_epochs = 2
use_cpu = true
"""


def test_check(call: Call, rows_file: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(CONFIG.format(rows=rows_file))
    code, out, err = call("check", str(config), "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["ok"]
    assert document["data"]["verdict"]["num_train_rows"] == 8
    assert document["plan"]["max_steps"] == 4
    assert document["memory"]["total"] > 0
    assert document["disk"]["checkpoint"] > 0
    code, out, _ = call("check", str(config))
    assert code == 0
    assert "ready to train" in out


def test_check_reports_everything_that_is_wrong(call: Call, rows_file: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(CONFIG.format(rows=rows_file))
    code, out, _ = call(
        "check", str(config), "--json", "--set", "data.path=nowhere.jsonl", "--set", "training.save_steps=0"
    )
    assert code == 2
    document = json.loads(out) if out else {}
    if document:
        assert not document["ok"]
        assert "no such file" in document["errors"][0]["what"]
    code, out, _ = call("check", str(config), "--json", "--set", "data.columns={prompt = 'x', completion = 'output'}")
    assert code == 2
    assert "has a column 'x'" in json.loads(out)["problems"][0]["message"]
    code, _, err = call("check", "no-such-preset")
    assert code == 2
    assert "there is no file and no preset" in err
