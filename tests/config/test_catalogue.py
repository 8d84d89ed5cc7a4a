"""The field catalogue: read off the schema, complete, and what a typed text means for each field."""

from __future__ import annotations

from typing import Any

import pytest

from tui_trainer.config.catalogue import (
    ALIASES,
    GROUPS,
    catalogue,
    check_value,
    find_key,
    parse_text,
    section_keys,
    shown,
)
from tui_trainer.config.resolve import typed_values
from tui_trainer.config.schema import RunConfig


def test_every_field_is_described() -> None:
    assert len(catalogue()) > 180
    for knob in catalogue().values():
        assert knob.help.endswith((".", ")")), knob.key
        assert knob.group in GROUPS, knob.key
        assert knob.expected, knob.key
        assert len(knob.help) > 10, knob.key


def test_every_group_has_fields_and_they_come_in_order() -> None:
    groups = [knob.group for knob in catalogue().values()]
    assert set(groups) == set(GROUPS)
    assert groups == sorted(groups, key=GROUPS.index)


def test_defaults_are_permitted_values() -> None:
    for knob in catalogue().values():
        assert check_value(knob, knob.default) == knob.default, knob.key


def test_the_catalogue_holds_every_leaf_of_a_configuration() -> None:
    config = RunConfig.model_validate({"lora": {}, "data": {"sources": [{}]}})
    leaves = set()

    def walk(value: Any, key: str) -> None:
        if hasattr(value, "model_fields_set"):
            for name in type(value).model_fields:
                walk(getattr(value, name), f"{key}.{name}" if key else name)
        elif isinstance(value, list) and value and hasattr(value[0], "model_fields_set"):
            walk(value[0], key)
        else:
            leaves.add(key)

    walk(config, "")
    assert leaves == set(catalogue())


def test_aliases_lead_to_fields_and_take_nobodys_place() -> None:
    for alias, key in ALIASES.items():
        assert key in catalogue()
        assert alias not in catalogue()
        assert alias.rpartition(".")[2] in catalogue()[key].aliases


def test_sections() -> None:
    assert section_keys() == {"model", "data", "data.sources", "lora", "training", "upkeep", "launch", "sampling"}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("training.learning_rate", "training.learning_rate"),
        ("learning_rate", "training.learning_rate"),
        ("lr", "training.lr"),
        ("warmup_ratio", "training.warmup_ratio"),
        ("training.gradient_checkpointing", "training.gradient_checkpointing"),
        ("quantization", "model.quantization"),
        ("name", "name"),
        ("path", "data.path"),
        ("seed", None),  # training and sampling have one each
        ("revision", None),
        ("learning_rat", None),
        ("", None),
        ("training", None),
    ],
)
def test_a_last_part_is_enough_where_it_is_the_only_one(name: str, key: str | None) -> None:
    assert find_key(name) == key


TYPED: list[tuple[str, str, Any]] = [
    ("training.learning_rate", "2e-4", 2e-4),
    ("training.learning_rate", "1", 1.0),
    ("training.max_steps", " 100 ", 100),
    ("training.bf16", "true", True),
    ("training.bf16", "yes", True),
    ("training.bf16", "off", False),
    ("training.optim", "adafactor", "adafactor"),
    ("training.optim", "2e-4", "2e-4"),
    ("training.lr_scheduler_kwargs", "{ min_lr_rate = 0.1 }", {"min_lr_rate": 0.1}),
    ("training.lr_scheduler_kwargs", "", None),
    ("training.fsdp", "true", True),
    ("training.fsdp", "full_shard auto_wrap", "full_shard auto_wrap"),
    ("data.eval_split", "0.1", 0.1),
    ("data.eval_split", "test", "test"),
    ("data.eval_split", "train[:10%]", "train[:10%]"),
    ("data.eval_split", "none", None),
    ("data.path", "123", "123"),
    ("data.path", "my file [1].jsonl", "my file [1].jsonl"),
    ("data.path", "None", None),
    ("sampling.prompts", '["a", "b, c"]', ["a", "b, c"]),
    ("sampling.early_stopping", "never", "never"),
    ("sampling.early_stopping", "false", False),
    ("lora.target_modules", "all-linear", "all-linear"),
    ("lora.target_modules", '["q_proj"]', ["q_proj"]),
    ("model.dtype", "bfloat16", "bfloat16"),
    ("model.quantization", "none", None),
    ("name", "none", "none"),
]


@pytest.mark.parametrize(("key", "text", "value"), TYPED)
def test_typed_texts(key: str, text: str, value: Any) -> None:
    parsed = parse_text(catalogue()[key], text)
    assert parsed == value
    assert type(parsed) is type(value)


REFUSED: list[tuple[str, str, str]] = [
    ("training.learning_rate", "fast", "must be a number above 0 and at most 10, not"),
    ("training.learning_rate", "0", "above 0"),
    ("training.learning_rate", "true", "must be a number"),
    ("training.learning_rate", "", "must be a number"),
    ("training.max_steps", "1.5", "must be a whole number at least -1"),
    ("training.bf16", "1", "must be true or false"),
    ("model.dtype", "fp32", "one of auto, float32, bfloat16, float16"),
    ("sampling.prompts", "a, b", "must be a list"),
    ("name", "a name", "must be at most 64 letters, digits"),
    ("name", "../x", "a letter or digit first, not"),
]


@pytest.mark.parametrize(("key", "text", "message"), REFUSED)
def test_refused_texts_say_what_is_permitted(key: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^must be") as caught:
        parse_text(catalogue()[key], text)
    assert message in str(caught.value)


def test_a_shown_value_can_be_typed_again() -> None:
    for knob in catalogue().values():
        if knob.kind == "choice" or knob.default is None:
            continue
        text = shown(knob.default)
        typed = knob.default if knob.kind == "text" else parse_text(knob, text)
        assert typed == knob.default, knob.key
    assert shown(2e-4) == "0.0002"
    assert shown(0.1 + 0.2) == "0.30000000000000004"
    assert shown({"a": [1, "b"], "c": None}) == '{a = [1, "b"], c = none}'


def test_every_field_can_be_set_by_its_key() -> None:
    keys = [key for key in catalogue() if not key.startswith("data.sources.")]
    values = typed_values([f"{key}={shown(catalogue()[key].default)}".replace('"', "") for key in ("name", "stage")])
    assert values.document.tree == {"name": "run", "stage": "sft"}
    assert all(find_key(key) == key for key in keys)
