"""The data path with a real model's tokenizer and template: SmolLM2, whose pad token ends its turns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests.engine.data.helpers import run_config, said
from tui_trainer.engine.data.prepare import prepare_data
from tui_trainer.engine.data.session import DataSession
from tui_trainer.engine.models.tokenizer import load_tokenizer

pytestmark = pytest.mark.model

ADDED = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"


def test_the_prompt_it_adds_is_shown_and_only_the_answer_is_trained(
    write_rows: Callable[..., Path], smollm2_folder: Path
) -> None:
    path = write_rows([{"messages": said("Who are you? 你是谁？", "I am Aurora.", "Sure?", "Yes.")}])
    session = DataSession(run_config(path, model={"name_or_path": str(smollm2_folder)}))
    (example,) = session.examples(session.records(0, 1))
    reference = AutoTokenizer.from_pretrained(smollm2_folder)
    assert example.input_ids == reference.apply_chat_template(example.messages, return_dict=False)
    assert example.text.startswith(ADDED)
    assert [(span.role, span.text) for span in example.spans if span.is_trained] == [
        ("assistant", "I am Aurora.<|im_end|>"),
        ("assistant", "Yes.<|im_end|>"),
    ]
    assert (example.spans[0].role, example.spans[0].text) == ("template", f"{ADDED}<|im_start|>user\n")
    assert not example.problems


def test_the_end_of_turn_stays_trained_in_a_padded_batch(write_rows: Callable[..., Path], smollm2_folder: Path) -> None:
    path = write_rows([{"input": "q", "output": "short"}, {"input": "q", "output": "a longer answer than that"}])
    config = run_config(path, model={"name_or_path": str(smollm2_folder)})
    tokenizer = load_tokenizer(config.model)
    data = prepare_data(config, tokenizer)
    batch = data.collator([data.train[0], data.train[1]])
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for row in range(2):
        trained = [label for label in batch["labels"][row].tolist() if label != -100]
        assert trained[-1] == end
        assert trained.count(end) == 1
