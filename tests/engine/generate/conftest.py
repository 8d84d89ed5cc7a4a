"""A tiny model and an engine over it."""

from __future__ import annotations

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.engine.tiny import chat_model, tiny_model
from tui_trainer.engine.generate.engine import Engine
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.engine.models.chat_model import LoadedModel


@pytest.fixture(scope="session")
def model() -> LlamaForCausalLM:
    """The same random model for all tests; nobody changes its weights."""
    return tiny_model()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes."""
    return bytes_tokenizer()


@pytest.fixture
def engine(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Engine:
    """An engine with an empty cache. Only token 258 ends an answer."""
    return Engine(model, tokenizer, [258], context_length=512)


@pytest.fixture(scope="session")
def smollm2() -> LoadedModel:
    """The demo model, fetched and converted once on this machine."""
    return chat_model("demo:smollm2", device="cpu")
