"""Loading: which forward pass, which type."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.chat.conftest import Caller
from tui_trainer.errors import UsageError


def test_the_lean_step_is_taken_unless_the_librarys_is_asked_for(tiny_folder: Path) -> None:
    worker = Caller()
    assert worker.load(tiny_folder)["decode"] == {"kind": "fused", "note": ""}
    lean = worker.ask(temperature=0.0, max_tokens=12)["candidates"]
    assert worker.load(tiny_folder, decode="library")["decode"]["kind"] == "library"
    assert worker.ask(temperature=0.0, max_tokens=12)["candidates"][0]["ids"] == lean[0]["ids"]
    with pytest.raises(UsageError, match="no way of decoding"):
        worker.load(tiny_folder, decode="magic")


def test_weights_in_8_bits_answer_on_the_cpu_alone(tiny_folder: Path) -> None:
    worker = Caller()
    assert worker.load(tiny_folder, dtype="int8")["dtype"] == "int8"
    assert worker.ask(max_tokens=5)["candidates"][0]["ids"]
    beams = worker.ask(use_beam_search=True, beam_width=2, temperature=0.0, max_tokens=4)
    assert beams["candidates"][0]["ids"]
    with pytest.raises(UsageError, match="int8 is for the CPU"):
        worker.load(tiny_folder, dtype="int8", device="cuda")
