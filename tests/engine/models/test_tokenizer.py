"""Tokenizers: the built-in one, a model's own, one without padding, one that wants to run code."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer

from tui_trainer.config.model import ModelConfig
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.engine.models.stop_tokens import end_of_turn_id, stop_token_ids
from tui_trainer.engine.models.tokenizer import load_tokenizer, tokenizer_from
from tui_trainer.errors import ConfigurationError, DataError, RefusedError, UsageError

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]


def test_a_byte_is_its_own_token() -> None:
    tokenizer = bytes_tokenizer()
    assert len(tokenizer) == 259
    for text in ("", "a", "Hé 世界 🎉\n\t\x00\x7f", "  two  spaces ", "\u202e\ufeff"):
        assert tokenizer.encode(text) == list(text.encode())
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_byte_and_special_token_comes_back() -> None:
    tokenizer = bytes_tokenizer()
    numbers = random.Random(0)
    for _ in range(50):
        text = "".join(
            chr(numbers.choice([numbers.randrange(32, 127), numbers.randrange(0x4E00, 0x9FFF)])) for _ in range(40)
        )
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [256, 257, 258]
    assert tokenizer.encode("a<|im_end|>b") == [97, 258, 98]


def test_it_saves_beside_a_model_and_loads_as_the_same(tmp_path: Path) -> None:
    tokenizer = bytes_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    AutoConfig.for_model("llama", vocab_size=259).save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = again.apply_chat_template(CHAT, tokenize=False)
    assert text == tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
    assert again.encode(text) == tokenizer.encode(text)
    assert (again.pad_token_id, again.eos_token_id, len(again)) == (256, 258, 259)


def test_its_padding_ends_no_turn() -> None:
    tokenizer = bytes_tokenizer()
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert end_of_turn_id(tokenizer) == tokenizer.eos_token_id


def test_the_tokenizer_named_goes_before_the_models_own(tiny_folder: Path) -> None:
    config = ModelConfig(name_or_path="nowhere/at-all", tokenizer_name_or_path="builtin:bytes")
    assert len(load_tokenizer(config)) == 259
    assert load_tokenizer(ModelConfig(name_or_path=str(tiny_folder))).encode("a") == [97]


def test_without_any_name_it_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="tokenizer_name_or_path"):
        load_tokenizer(ModelConfig(from_scratch={"model_type": "llama"}))


def test_an_unknown_builtin_is_told() -> None:
    with pytest.raises(UsageError, match="builtin:bytes"):
        load_tokenizer(ModelConfig(tokenizer_name_or_path="builtin:words"))


def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        tokenizer_from(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {}}'])
def test_a_broken_tokenizer_is_a_sentence(tiny_folder: Path, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match="tokenizer cannot be loaded"):
        tokenizer_from(folder)


def _changed(tiny_folder: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(tiny_folder, folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return folder


def test_padding_is_a_token_that_ends_no_turn_where_there_is_one(tiny_folder: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_from(_changed(tiny_folder, tmp_path / "a", pad_token=None))
    assert tokenizer.pad_token == "<|endoftext|>"
    last_resort = tokenizer_from(_changed(tiny_folder, tmp_path / "b", pad_token=None, eos_token="<|endoftext|>"))
    assert last_resort.pad_token == "<|endoftext|>"


def test_code_of_the_repository_is_not_run_without_consent(tiny_folder: Path, tmp_path: Path) -> None:
    folder = _changed(tiny_folder, tmp_path / "foreign", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')")
    assert tokenizer_from(folder).encode("a") == [97]
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "evil"}))
    with pytest.raises(RefusedError) as caught:
        tokenizer_from(folder)
    assert "evil.Tokenizer" in caught.value.what
    assert "evil.py" in caught.value.what
    assert not (tmp_path / "harm").exists()


CHATML_LIKE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>\n{% endfor %}"
LAST_TURN_OPEN = "{% for m in messages %}<|{{ 'im_start' if m.role == 'user' else 'x' }}|>{{ m.content }}{% endfor %}"
NO_TOKENS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
REFUSES = "{{ raise_exception('no') }}"


@pytest.mark.parametrize(
    ("template", "expected"),
    [(CHATML_LIKE, 258), (LAST_TURN_OPEN, 257), (NO_TOKENS, None), (REFUSES, None), (None, None), ("{{ ", None)],
)
def test_the_end_of_a_turn_is_read_off_the_template(template: str | None, expected: int | None) -> None:
    tokenizer = bytes_tokenizer()
    tokenizer.chat_template = template
    assert end_of_turn_id(tokenizer) == expected


@pytest.mark.parametrize(
    ("configured", "expected"), [(None, (258,)), (5, (5, 258)), ([5, 258, 6], (5, 258, 6)), (258, (258,))]
)
def test_all_that_ends_an_answer_is_gathered_once(configured: object, expected: tuple[int, ...]) -> None:
    class Model:
        generation_config = type("Config", (), {"eos_token_id": configured})()

    assert stop_token_ids(Model(), bytes_tokenizer()) == expected
