"""The light tokenizer: equal to that of `transformers`, and loaded without it the second time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tui_trainer.config.model import ModelConfig
from tui_trainer.engine.data.tokenizer import TextTokenizer, state_of
from tui_trainer.engine.data.tokenizer_cache import bytes_state, text_tokenizer
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.errors import ConfigurationError, DataError

TEXTS = [
    "",
    "hello",
    "  two  spaces\n\n\nlines\t",
    "é 世界 🎉 \u200d",
    "<|im_start|>user\nq<|im_end|>\n",
    "</s><s> <think>x</think>",
    "a" * 500,
    "\x00\x1b[0m",
]


@pytest.mark.parametrize("special", [False, True])
def test_ids_and_texts_equal_transformers(merging_tokenizer: PreTrainedTokenizerFast, special: bool) -> None:
    light = TextTokenizer.of(merging_tokenizer)
    for text in TEXTS:
        expected = merging_tokenizer(text, add_special_tokens=special)["input_ids"]
        assert light.encode(text, add_special_tokens=special) == expected
        decoded = merging_tokenizer.decode(expected, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert light.decode(expected) == decoded
    slow = light.encode_batch(TEXTS, add_special_tokens=special)
    quick = light.encode_batch_fast(TEXTS, add_special_tokens=special)
    assert [encoding.ids for encoding in slow] == [encoding.ids for encoding in quick]
    assert light.bos_token_id == merging_tokenizer.bos_token_id
    assert light.eos_token_id == merging_tokenizer.eos_token_id
    assert light.pad_token_id == merging_tokenizer.pad_token_id
    assert light.added_tokens == merging_tokenizer.get_added_vocab()
    assert light.num_ids == len(merging_tokenizer)


def test_texts_of_tokens_are_together_the_text(merging: TextTokenizer) -> None:
    for text in (*TEXTS, "静夜思 床前明月光 👩‍👩‍👧 x"):
        ids = merging.encode(text)
        texts = merging.token_texts(ids)
        assert len(texts) == len(ids)
        assert "".join(texts) == text
        assert "\ufffd" not in "".join(texts)
    half = merging.encode("静")[:1]
    assert merging.token_texts(half) == ["\ufffd"]


def test_truncation_and_padding_of_the_original_do_not_matter() -> None:
    tokenizer = bytes_tokenizer()
    tokenizer(["a", "longer"], padding=True, truncation=True, max_length=3)
    assert TextTokenizer.of(tokenizer).encode("longer text") == list(b"longer text")


def test_what_is_kept_equals_what_was_loaded(merging_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    merging_tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    config = ModelConfig(tokenizer_name_or_path=str(tmp_path / "model"))
    first, second = text_tokenizer(config), text_tokenizer(config)
    reference = AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in TEXTS:
        expected = reference(text, add_special_tokens=False)["input_ids"]
        assert first.encode(text) == second.encode(text) == expected
    assert first.state == second.state
    assert second.state.chat_template == reference.chat_template == "{{ messages[0].content }}"
    assert dict(second.state.special_tokens) == reference.special_tokens_map
    assert first.fingerprint == second.fingerprint
    (tmp_path / "model" / "chat_template.jinja").write_text("changed")
    assert text_tokenizer(config).state.chat_template == "changed"


def test_the_tokenizer_of_bytes_needs_no_loading() -> None:
    assert bytes_state() == state_of(bytes_tokenizer(), "builtin:bytes")


def test_a_broken_copy_is_made_anew(tmp_path: Path) -> None:
    bytes_tokenizer().save_pretrained(tmp_path)
    config = ModelConfig(tokenizer_name_or_path=str(tmp_path))
    before = text_tokenizer(config)
    (kept,) = (Path(os.environ["TUI_TRAINER_HOME"]) / "cache" / "tokenizers").glob("*.json")
    for broken in ("no json", '{"backend": "{}"}'):
        kept.write_text(broken)
        assert text_tokenizer(config).state == before.state


def test_errors_of_the_loading_process_arrive(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("broken")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(DataError, match="the tokenizer cannot be loaded"):
        text_tokenizer(ModelConfig(tokenizer_name_or_path=str(tmp_path)))


def test_loading_a_tokenizer_leaves_no_torch_behind(tmp_path: Path) -> None:
    bytes_tokenizer().save_pretrained(tmp_path)
    code = (
        "import sys\nfrom tui_trainer.config.model import ModelConfig\n"
        "from tui_trainer.engine.data.tokenizer_cache import text_tokenizer\n"
        "text_tokenizer(ModelConfig(tokenizer_name_or_path=sys.argv[1]))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)


def test_pad_tokens(merging: TextTokenizer) -> None:
    assert merging.padded_with(None) == merging.eos_token_id
    assert merging.padded_with("<s>") == merging.bos_token_id
    with pytest.raises(ConfigurationError, match=r"data\.pad_token"):
        merging.padded_with("<missing>")


def test_a_tokenizer_without_a_fast_version_is_refused() -> None:
    with pytest.raises(DataError, match="no fast version"):
        TextTokenizer.of(object())  # type: ignore[arg-type]


LIGHT = """
import sys
from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.data.cells import cells_document
from tui_trainer.engine.data.samples import Samples
from tui_trainer.engine.data.session import DataSession
import tui_trainer.engine.servers.data
config = RunConfig.model_validate({"data": {"path": sys.argv[1]}, "model": {"tokenizer_name_or_path": "builtin:bytes"}})
session = DataSession(config)
assert session.count() == 1
cells_document(session.record(0), None, None)
heavy = {"torch", "transformers", "datasets", "accelerate", "pandas", "pyarrow", "peft"} & set(sys.modules)
assert not heavy, heavy
if sys.argv[2] == "tokens":
    assert Samples(session).document(0)["num_trained"] > 0
    heavy = {"torch", "transformers", "datasets", "accelerate", "pandas", "pyarrow", "peft"} & set(sys.modules)
    assert not heavy, heavy
"""


def test_neither_rows_nor_tokens_load_anything_heavy(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input": "q", "output": "a"}\n')
    subprocess.run([sys.executable, "-c", LIGHT, str(path), "rows"], check=True, timeout=120)
    subprocess.run([sys.executable, "-c", LIGHT, str(path), "tokens"], check=True, timeout=120)
