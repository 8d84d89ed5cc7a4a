"""Two sessions on one set of weights answer as they would alone, and in one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from tests.engine.chat.conftest import MESSAGES, Caller
from tests.engine.tiny import tiny_model
from tui_trainer.engine.models.randomness import seeded


def save_adapter(folder: Path, base: Path, seed: int, **fields: Any) -> Path:
    config = LoraConfig(
        **{"r": 3, "lora_alpha": 12, "target_modules": "all-linear", "init_lora_weights": False, **fields}
    )
    with seeded(seed):
        model = get_peft_model(tiny_model(), config)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def adapters(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [save_adapter(root / f"step-{seed:06d}", tiny_folder, seed) for seed in (1, 2)]


def alone(model: Path, **params: Any) -> list[list[int]]:
    worker = Caller()
    worker.load(model)
    return ids_of(worker.ask(**params))


def ids_of(document: dict[str, Any]) -> list[list[int]]:
    return [candidate["ids"] for candidate in document["candidates"]]


GREEDY = {"temperature": 0.0, "max_tokens": 12}
DRAWN = {"max_tokens": 12, "seed": 4, "n": 3}


@pytest.mark.parametrize("params", [GREEDY, DRAWN])
@pytest.mark.parametrize(("first", "second"), [("base", 0), (0, "base"), (0, 1), ("base", "base")])
def test_both_answer_from_one_batch_as_each_would_alone(
    first: Any, second: Any, params: dict[str, Any], tiny_folder: Path, adapters: list[Path]
) -> None:
    references = [tiny_folder if name == "base" else adapters[name] for name in (first, second)]
    worker = Caller()
    worker.load(references[0])
    described = worker.call("load", model=str(references[1]), slot="b")[1]
    assert described["shares_weights"] is True
    _, view = worker.call("compare", messages=MESSAGES, params=params)
    assert view["in_one_batch"] is True
    assert ids_of(view["a"]) == alone(references[0], **params)
    assert ids_of(view["b"]) == alone(references[1], **params)
    # each goes on alone afterwards
    assert ids_of(worker.ask(**params)) == ids_of(view["a"])
    document = worker.call("generate", messages=MESSAGES, params=params, slot="b")[1]
    assert ids_of(document) == ids_of(view["b"])


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_who_stays_answers_as_before_and_the_other_place_can_be_taken_again(
    order: str, tiny_folder: Path, adapters: list[Path]
) -> None:
    worker = Caller()
    references = {"a": tiny_folder, "b": adapters[0]}
    worker.load(references["a"])
    worker.call("load", model=str(references["b"]), slot="b")
    worker.call("unload", slot=order[0])
    stays = order[1]
    document = worker.call("generate", messages=MESSAGES, params=GREEDY, slot=stays)[1]
    assert ids_of(document) == alone(references[stays], **GREEDY)
    described = worker.call("load", model=str(adapters[1]), slot=order[0])[1]
    assert described["shares_weights"] is True
    _, view = worker.call("compare", messages=MESSAGES, params=GREEDY)
    expected = {stays: references[stays], order[0]: adapters[1]}
    for slot in "ab":
        assert ids_of(view[slot]) == alone(expected[slot], **GREEDY)


def test_beams_go_through_the_sessions_own_adapter(tiny_folder: Path, adapters: list[Path]) -> None:
    beams = {"use_beam_search": True, "beam_width": 2, "temperature": 0.0, "max_tokens": 6}
    worker = Caller()
    worker.load(tiny_folder)
    worker.call("load", model=str(adapters[0]), slot="b")
    assert ids_of(worker.ask(**beams)) == alone(tiny_folder, **beams)
    other = worker.call("generate", messages=MESSAGES, params=beams, slot="b")[1]
    assert ids_of(other) == alone(adapters[0], **beams)
    _, view = worker.call("compare", messages=MESSAGES, params=beams)
    assert view["in_one_batch"] is False


def test_an_adapter_that_is_more_than_a_lora_gets_weights_of_its_own(tiny_folder: Path, tmp_path: Path) -> None:
    odd = save_adapter(tmp_path / "odd", tiny_folder, 3, use_dora=True)
    worker = Caller()
    worker.load(tiny_folder)
    assert worker.call("load", model=str(odd), slot="b")[1]["shares_weights"] is False
    _, view = worker.call("compare", messages=MESSAGES, params=GREEDY)
    assert view["in_one_batch"] is False
    assert ids_of(view["b"]) == alone(odd, **GREEDY)


def test_cancelling_ends_both(tiny_folder: Path, adapters: list[Path]) -> None:
    from tui_trainer.wire.server import Cancellation

    worker, cancellation = Caller(), Cancellation()
    worker.load(tiny_folder)
    worker.call("load", model=str(adapters[0]), slot="b")
    request = {"messages": MESSAGES, "params": {"max_tokens": 300, "ignore_eos": True}}
    generator = worker.server.compare(request, cancellation)
    next(generator)
    cancellation.cancel()
    document = rest_of(generator)
    for slot in "ab":
        (candidate,) = document[slot]["candidates"]
        assert candidate["finish_reason"] == "cancelled"
        assert len(candidate["ids"]) < 5


def rest_of(generator: Any) -> Any:
    """Run a method to its end; what it returns."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
