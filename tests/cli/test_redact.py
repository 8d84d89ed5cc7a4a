"""Secrets are masked, and nothing else is."""

from __future__ import annotations

import time

import pytest

from tui_trainer.redact import MASK, is_secret_name, redact, redact_arguments

TOKEN = "hf_" + "AbCdEfGh" * 4


@pytest.mark.parametrize(
    "text",
    [
        f"401 for {TOKEN}",
        f"model.token={TOKEN}",
        "HF_TOKEN=0123456789secret",
        "--set launch.env.WANDB_API_KEY=0123456789secret",
        "password: '0123456789secret'",
        '{"token": "0123456789secret"}',
        "Authorization: Bearer 0123456789secret",
        "https://user:0123456789secret@example.org/v1",
        "key sk-proj-0123456789secretsecret was refused",
    ],
)
def test_secret_is_masked(text: str) -> None:
    masked = redact(text)
    assert MASK in masked
    assert TOKEN not in masked
    assert "0123456789secret" not in masked


@pytest.mark.parametrize(
    "text",
    [
        "data.pad_token=<|endoftext|>",
        "sampling.max_tokens=256",
        "training.average_tokens_across_devices=true",
        "model.revision=b179c9523d0e6a0f98a330c7562b682750a6f8c8",
        "tokenizer_name_or_path=builtin:bytes",
        "Epoch: 3 loss: 1.2",
        "https://huggingface.co/a/b@main",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_value_after_its_option_is_masked() -> None:
    assert redact_arguments(["chat", "--api-key", "0123456789", "--prompt", "hello"]) == [
        "chat",
        "--api-key",
        MASK,
        "--prompt",
        "hello",
    ]


def test_names() -> None:
    assert is_secret_name("HF_TOKEN")
    assert is_secret_name("api-key")
    assert not is_secret_name("eos_token")
    assert not is_secret_name("tokenizer")


def test_long_words_take_no_long_time() -> None:
    start = time.process_time()
    redact("x" * 1_000_000 + " " + "a." * 500_000)
    assert time.process_time() - start < 2.0
