"""What a changed value means for a run that goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tui_trainer.config.catalogue import catalogue, section_keys
from tui_trainer.config.resolve import resolve, typed_values
from tui_trainer.config.resuming import APPLIED, INEXACT, REFUSED, Effect, differences, effect_of


def dumped(*assignments: str) -> dict[str, Any]:
    return resolve([typed_values(assignments)]).config.model_dump(mode="json")


def test_the_table_names_only_fields_that_exist() -> None:
    assert {*REFUSED, *APPLIED, *INEXACT} <= set(catalogue()) | section_keys()


@pytest.mark.parametrize("key", sorted(catalogue()))
def test_what_the_rows_and_the_model_follow_from_is_never_passed_over(key: str) -> None:
    """A new field of these sections has to be put into the table or into this list."""
    harmless = {
        "data.token_env",
        "data.padding",
        "data.pad_to_multiple_of",
        "data.padding_side",
        "data.pad_token",
        "data.num_proc",
        "data.cache_dir",
        "model.trust_remote_code",
        "model.cache_dir",
    }
    section = key.partition(".")[0]
    if section in ("data", "model", "lora") and not key.startswith("data.sources.") and key not in harmless:
        assert effect_of(key)[0] is not Effect.OUTSIDE


def test_nothing_differs_from_itself() -> None:
    assert differences(dumped("lora.r=8"), dumped("lora.r=8")) == []
    assert differences(dumped(), {**dumped(), "name": "other"}) == []


def test_what_forbids_going_on_comes_first() -> None:
    found = differences(
        dumped("training.bf16=true"),
        dumped("learning_rate=1e-5", "data.max_length=77", "training.bf16=false", "launch.grace_seconds=9"),
    )
    assert [(difference.key, difference.effect) for difference in found] == [
        ("data.max_length", Effect.REFUSED),
        ("training.learning_rate", Effect.APPLIED),
        ("training.bf16", Effect.INEXACT),
        ("launch.grace_seconds", Effect.OUTSIDE),
    ]
    assert (found[1].old, found[1].new) == (5e-5, 1e-5)
    assert "begun from the first" in found[0].note


def test_an_adapter_that_comes_or_goes_is_another_model() -> None:
    for old, new in ((dumped(), dumped("lora.r=4")), (dumped("lora.r=4"), dumped())):
        refused = [difference.key for difference in differences(old, new) if difference.effect is Effect.REFUSED]
        assert "lora" in {key.partition(".")[0] for key in refused}


@pytest.mark.parametrize("name", ["fsdp", "deepspeed"])
def test_files_of_fsdp_and_deepspeed_cannot_be_read_without(name: str) -> None:
    without, used = dumped(), dumped(f"training.{name}=a")
    for old, new in ((without, used), (used, without)):
        (found,) = differences(old, new)
        assert (found.key, found.effect) == (f"training.{name}", Effect.REFUSED)
    (other,) = differences(used, dumped(f"training.{name}=b"))
    assert other.effect is Effect.INEXACT
