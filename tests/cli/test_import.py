"""`tui-trainer import`: the file on stdout or where it was asked for, the remarks on stderr."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.cli.conftest import Call
from tui_trainer.config.load import load_config
from tui_trainer.errors import ExitCode

TEXT = """\
base_model: some/model
adapter: lora
datasets:
  - path: rows.jsonl
    type: alpaca
sequence_len: 256
micro_batch_size: 2
xformers_attention: true
unheard_of: 3
"""


def test_the_configuration_on_stdout_and_the_rest_on_stderr(call: Call, tmp_path: Path) -> None:
    (tmp_path / "ax.yml").write_text(TEXT)
    printed = call("import", "ax.yml")
    assert printed.code == ExitCode.DONE
    tree = tomllib.loads(printed.out)
    assert (tree["data"]["max_length"], tree["training"]["per_device_train_batch_size"]) == (256, 2)
    assert "axolotl: " in printed.err
    for told in ("unheard_of = 3 (line 9)", "xformers_attention = true (line 8)"):
        assert told in printed.err
        assert told in printed.out


def test_a_file_and_a_document(call: Call, tmp_path: Path) -> None:
    (tmp_path / "ax.yml").write_text(TEXT)
    document = call("import", "ax.yml", "--from", "axolotl", "--out", "ours.toml", "--json").json()
    assert (document["version"], document["from"], document["file"]) == (1, "axolotl", "ours.toml")
    assert (tmp_path / "ours.toml").read_text() == document["toml"]
    assert load_config("ours.toml").config.data.path == "rows.jsonl"
    assert {"unknown", "left_out", "default"} <= {remark["kind"] for remark in document["remarks"]}
    again = call("import", "ax.yml", "--out", "ours.toml")
    assert again.code == ExitCode.REFUSED
    assert call("import", "ax.yml", "--from", "unsloth").code == ExitCode.USAGE
    assert call("import", "nothing.yml").code == ExitCode.USAGE
