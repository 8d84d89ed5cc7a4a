"""A model small enough for any test: a random Llama of a few thousand parameters over bytes, saved like a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.engine.models.chat_model import LoadedModel, load_located, locate_for_chat
from tui_trainer.engine.models.randomness import seeded


def tiny_model(**changes: Any) -> LlamaForCausalLM:
    """A random Llama over 259 tokens; the weights are spread so that its choices are not all alike."""
    fields = {
        "vocab_size": 259,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": 258,
        "pad_token_id": 256,
    }
    with seeded(0):
        model = LlamaForCausalLM(LlamaConfig(**{**fields, **changes}))
    model.train(False)
    return model


def save_tiny(folder: Path, *, with_template: bool = True, **changes: Any) -> Path:
    """Write a tiny model and its tokenizer into a folder."""
    tiny_model(**changes).save_pretrained(folder)
    tokenizer: PreTrainedTokenizerFast = bytes_tokenizer()
    if not with_template:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return folder


def chat_model(reference: str, adapter: str | None = None, *, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """A model to talk to, found and loaded as by the chat."""
    return load_located(locate_for_chat(reference, adapter), device=device, dtype=dtype)
