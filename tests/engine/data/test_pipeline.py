"""From rows to ids, labels and spans: goldens, cutting, and agreement of the quick and the careful way."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.engine.data.helpers import CHATML, Lab, codes, own_template, records, said
from tui_trainer.config.data import DataConfig
from tui_trainer.engine.data.formats.detect import resolve_format
from tui_trainer.engine.data.pipeline import DataPipeline
from tui_trainer.engine.data.tokenizer import TextTokenizer
from tui_trainer.errors import ConfigurationError

PAIR = {"input": "What is due?", "output": "Rent."}
FORMATS: dict[str, dict[str, Any]] = {
    "messages": {"messages": said("What is due?", "Rent.")},
    "sharegpt": {"conversations": [{"from": "human", "value": "What is due?"}, {"from": "gpt", "value": "Rent."}]},
    "alpaca": {"instruction": "What is", "input": "due?", "output": "Rent."},
    "prompt_completion": PAIR,
}


def bytes_of(text: str) -> list[int]:
    """Ids of the byte tokenizer, whose special tokens are 256 to 258."""
    ids: list[int] = []
    while text:
        for token, index in (("<|endoftext|>", 256), ("<|im_start|>", 257), ("<|im_end|>", 258)):
            if text.startswith(token):
                ids.append(index)
                text = text[len(token) :]
                break
        else:
            ids.extend(text[0].encode())
            text = text[1:]
    return ids


def byte_examples(tokenizer: TextTokenizer, rows: list[Any], stage: str = "sft", **data: Any) -> list[Any]:
    config = DataConfig(**data)
    spec = resolve_format(rows, config.format, config.columns, stage, "rows")
    template = None if config.template == "none" else own_template(tokenizer)
    return DataPipeline(config, stage, tokenizer, template, [spec]).examples(records(rows), in_detail=True)


def test_no_cycles_are_looked_for_while_a_batch_is_made(byte_tokens: TextTokenizer) -> None:
    rows = [FORMATS["messages"]] * 1000
    spec = resolve_format(rows, "auto", {}, "sft", "rows")
    pipeline = DataPipeline(DataConfig(), "sft", byte_tokens, own_template(byte_tokens), [spec])
    searches: list[str] = []
    batch, note = records(rows), lambda phase, _: searches.append(phase)
    gc.collect()
    gc.callbacks.append(note)
    try:
        examples = pipeline.examples(batch)
        # one may begin as soon as the batch is done
        assert searches.count("start") <= 1
        assert gc.isenabled()
    finally:
        gc.callbacks.remove(note)
    assert len(examples) == 1000


@pytest.mark.parametrize("name", FORMATS)
def test_goldens_of_each_format(name: str, byte_tokens: TextTokenizer) -> None:
    (example,) = byte_examples(byte_tokens, [FORMATS[name]])
    question = "What is\ndue?" if name == "alpaca" else "What is due?"
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    answer = "Rent.<|im_end|>"
    assert example.text == f"{prompt}{answer}\n"
    assert example.input_ids == bytes_of(example.text)
    start = len(bytes_of(prompt))
    assert example.trained == [(start, start + 6)]
    assert example.labels == [-100] * start + bytes_of(answer) + [-100]
    assert [(span.role, span.is_trained, span.text) for span in example.spans] == [
        ("template", False, "<|im_start|>user\n"),
        ("user", False, question),
        ("template", False, "<|im_end|>\n<|im_start|>assistant\n"),
        ("assistant", True, answer),
        ("template", False, "\n"),
    ]
    assert not example.problems


def test_spans_cover_all_tokens_with_their_exact_text(lab: Lab) -> None:
    rows = [{"messages": [{"role": "system", "content": "s é"}, *said("世界 🎉", "a\n\nb", "", "  c ")]}]
    (example,) = lab.examples(rows, in_detail=True)
    assert example.spans[0].start == 0
    assert example.spans[-1].end == example.num_tokens
    for left, right in zip(example.spans, example.spans[1:], strict=False):
        assert left.end == right.start
    for span in example.spans:
        assert span.text == lab.tokenizer.decode(example.input_ids[span.start : span.end])
        labels = example.labels[span.start : span.end]
        assert all((label != -100) == span.is_trained for label in labels)


def test_a_pair_without_template(lab: Lab) -> None:
    (example,) = lab.examples([{"prompt": "first reply", "completion": " second reply"}], None, in_detail=True)
    assert example.text == "first reply second reply"
    assert example.input_ids == [*lab.tokenizer.encode(example.text), lab.tokenizer.eos_token_id]
    assert lab.trained(example) == [" second reply</s>"]
    assert codes(example) == set()
    assert [(span.role, span.is_trained) for span in example.spans] == [("user", False), ("assistant", True)]


def test_a_border_inside_a_token_is_reported(lab: Lab) -> None:
    (example,) = lab.examples([{"prompt": "the ans", "completion": "wer is here"}], None)
    assert codes(example) == {"template_not_prefix"}
    assert "lies across the border" in example.problems[0].message
    assert not lab.trained(example)[0].startswith("wer")


def test_plain_text_is_trained_from_its_second_token_to_its_end(lab: Lab) -> None:
    (example,) = lab.examples([{"text": "the answer is here"}], None, stage="pretrain")
    assert example.input_ids == [*lab.tokenizer.encode("the answer is here"), lab.tokenizer.eos_token_id]
    assert example.trained == [(1, example.num_tokens)]
    (bare,) = lab.examples([{"text": "the answer is here"}], None, stage="pretrain", add_special_tokens=False)
    assert bare.input_ids == lab.tokenizer.encode("the answer is here")


def test_conversations_need_a_template(lab: Lab) -> None:
    (example,) = lab.examples([{"messages": said("q", "a")}], None)
    assert codes(example) == {"template_error"}
    assert not example.is_usable


def test_the_system_message_of_the_configuration(lab: Lab) -> None:
    with_own = [{"role": "system", "content": "own"}, *said("q", "a")]
    plain, own = lab.examples([{"messages": said("q", "a")}, {"messages": with_own}], system="Be kind.")
    assert "Be kind." in plain.text
    assert "own" in own.text
    assert "Be kind." not in own.text


def test_the_system_message_of_a_pair_without_template(lab: Lab) -> None:
    plain, own = lab.examples(
        [{"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "a", "system": "own"}],
        None,
        system="Be kind.",
    )
    assert plain.text == "Be kind.\n\nqa"
    assert own.text == "own\n\nqa"


def test_tokenised_rows(lab: Lab) -> None:
    ids = lab.tokenizer.encode("first reply second reply")
    labels = [-100, *ids[1:-1], -100]
    example, beyond = lab.examples(
        [{"input_ids": ids, "labels": labels}, {"input_ids": [10**6], "labels": [-100]}], None
    )
    assert example.input_ids == ids
    assert example.labels == labels
    assert codes(beyond) == {"schema"}


LONG = {"messages": said("question " * 20, "answer " * 20)}


@pytest.mark.parametrize("side", ["right", "left"])
def test_cutting(lab: Lab, side: str) -> None:
    (whole,) = lab.examples([LONG], in_detail=True)
    length = whole.num_tokens - 15
    (cut,) = lab.examples([LONG], in_detail=True, max_length=length, truncation=side)
    assert cut.is_truncated
    assert cut.num_tokens_before == whole.num_tokens
    if side == "right":
        assert cut.input_ids == whole.input_ids[:length]
        assert cut.labels == whole.labels[:length]
        assert codes(cut) == {"answer_cut"}
    else:
        assert cut.input_ids == whole.input_ids[-length:]
        assert cut.labels == whole.labels[-length:]
        assert codes(cut) == {"truncated"}
    assert cut.spans[0].start == 0
    assert cut.spans[-1].end == length


def test_an_answer_cut_away_whole_is_of_no_use(lab: Lab) -> None:
    (cut,) = lab.examples([LONG], max_length=20)
    assert {"answer_cut", "no_trained_tokens"} <= codes(cut)
    assert not cut.is_usable


def test_dropping(lab: Lab) -> None:
    (dropped,) = lab.examples([LONG], max_length=20, truncation="drop")
    assert codes(dropped) == {"too_long_dropped"}
    assert not dropped.is_usable


def test_splitting_text(lab: Lab) -> None:
    text = "the answer is here and there " * 10
    (whole,) = lab.examples([{"text": text}], None, stage="pretrain")
    pieces = lab.examples([{"text": text}], None, stage="pretrain", max_length=10, truncation="split")
    assert [token for piece in pieces for token in piece.input_ids] == whole.input_ids
    assert all(piece.num_tokens <= 10 for piece in pieces)
    assert {piece.row for piece in pieces} == {0}
    assert all(piece.labels[0] == -100 for piece in pieces)


def test_conversations_are_not_split(lab: Lab) -> None:
    with pytest.raises(ConfigurationError, match="split is for plain text"):
        lab.pipeline([LONG], truncation="split")


def test_the_quick_way_agrees_with_the_careful_way(lab: Lab) -> None:
    rows: list[dict[str, Any]] = [{"messages": said(f"question {n}", f"answer {n}")} for n in range(5)]
    rows += [{"messages": said("q", "a", f"r{n}", f"b{n}", "s", "c")} for n in range(5)]
    rows += [{"messages": said(*(f"turn {n}" for n in range(2 * length)))} for length in range(1, 9)]
    rows += [
        {"messages": [{"role": "system", "content": "s"}, *said("q", "a")]},
        {"messages": said("q", "<|im_end|>")},
        {"messages": said("holds <|im_start|> inside", "a")},
        {"messages": said("q", "\n\nanswer")},
        {"messages": said("q ", " a ", "\nr\n", "\n")},
        {"messages": [*said("q", "a"), {"role": "user", "content": "r"}]},
    ]
    for template in (CHATML, CHATML.replace("message['content']", "message['content'] | trim")):
        pipeline = lab.pipeline(rows, template)
        first = pipeline.examples(records(rows))
        again = pipeline.examples(records(rows))
        careful = pipeline.examples(records(rows), in_detail=True)
        for quick in (first, again):
            for one, other in zip(quick, careful, strict=True):
                assert one.input_ids == other.input_ids == lab.tokenizer.encode(one.text)
                assert one.trained == other.trained
                assert codes(one) == codes(other)


def test_ids_are_those_of_transformers(lab: Lab, merging_tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [{"messages": said("question é 世界", f"answer {n}\n", "more\n\n", "  done")} for n in range(3)]
    for example in lab.examples(rows):
        expected = merging_tokenizer.apply_chat_template(
            rows[example.row]["messages"], chat_template=CHATML, return_dict=False
        )
        assert example.input_ids == expected


def test_blanks_that_a_token_swallows_belong_to_it() -> None:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast as Fast

    from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer

    base: Fast = bytes_tokenizer()
    base.add_tokens([AddedToken("<|end|>", special=True, rstrip=True), AddedToken("<|assistant|>", rstrip=True)])
    swallowing = Lab(TextTokenizer.of(base))
    template = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    rows = [{"messages": said("q", "a", "r", "b")}]
    for in_detail in (True, False, False):
        (example,) = swallowing.examples(rows, template, in_detail=in_detail)
        assert [text.strip() for text in swallowing.trained(example)] == ["a<|end|>", "b<|end|>"]
