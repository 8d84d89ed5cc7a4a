"""Text as it streams: whole characters only, stop strings across tokens, nothing lost and nothing twice."""

from __future__ import annotations

import random
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tui_trainer.engine.generate.detokenize import Detokenizer

TEXTS = ["plain", "你好，世界", "🎉🎉 mixed ñ 🇩🇪 end", "e\u0301 combining", "👩‍👩‍👧‍👦", "", "a\n\n b\t"]


def pieces(tokenizer: PreTrainedTokenizerFast, ids: list[int], **options: Any) -> tuple[list[str], Detokenizer]:
    detokenizer = Detokenizer(tokenizer, **options)
    shown = [detokenizer.push(token) for token in ids]
    return [*shown, detokenizer.finish()], detokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_a_stream_shows_whole_characters_and_all_of_them(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    shown, detokenizer = pieces(tokenizer, list(text.encode()))
    assert "".join(shown) == detokenizer.text == text
    assert not any("\ufffd" in piece for piece in shown)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_character_cut_in_half_at_the_end_is_not_shown(tokenizer: PreTrainedTokenizerFast, missing: int) -> None:
    shown, _ = pieces(tokenizer, list("ab🎉".encode())[:-missing])
    assert "".join(shown) == "ab"


def test_bytes_that_are_no_text_are_shown_as_such(tokenizer: PreTrainedTokenizerFast) -> None:
    shown, _ = pieces(tokenizer, [0x61, 0xFF, 0xFE, 0x62])
    assert "".join(shown) == "a\ufffd\ufffdb"
    shown, _ = pieces(tokenizer, [0xFF] * 10)
    assert set("".join(shown)) == {"\ufffd"}


def test_special_tokens_are_left_out_or_shown(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = [97, 257, 98, 258]
    assert "".join(pieces(tokenizer, ids)[0]) == "ab"
    assert "".join(pieces(tokenizer, ids, skip_special_tokens=False)[0]) == "a<|im_start|>b<|im_end|>"


def test_a_special_token_inside_a_character_does_not_lose_it(tokenizer: PreTrainedTokenizerFast) -> None:
    first, *rest = "é".encode()
    shown, _ = pieces(tokenizer, [first, 258, *rest, 97])
    assert "".join(shown).endswith("a")


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ["two"], "one "),
        ("one two three", ["three", "two"], "one "),
        ("aaab", ["aab"], "a"),
        ("ababac", ["abac"], "ab"),
        ("你好世界", ["好世"], "你"),
        ("one two", ["twos", "x"], "one two"),
        ("one two", ["one"], ""),
        ("one tw", ["two"], "one tw"),
    ],
)
def test_a_stop_string_ends_the_text_before_it(
    tokenizer: PreTrainedTokenizerFast, text: str, stop: list[str], expected: str
) -> None:
    shown, detokenizer = pieces(tokenizer, list(text.encode()), stop=stop)
    assert "".join(shown) == expected
    assert (detokenizer.stopped_by is None) == (expected == text)


def test_text_is_held_back_only_while_a_stop_string_may_have_begun(tokenizer: PreTrainedTokenizerFast) -> None:
    shown, _ = pieces(tokenizer, list(b"x</y</s"), stop=["</s>"])
    assert shown == ["x", "", "", "</y", "", "", "", "</s"]


def test_stop_strings_do_not_count_before_they_may(tokenizer: PreTrainedTokenizerFast) -> None:
    detokenizer = Detokenizer(tokenizer, stop=["b"])
    shown = [detokenizer.push(token, can_stop=place > 2) for place, token in enumerate(b"abcabc")]
    assert "".join(shown) == "abca"
    assert detokenizer.stopped_by == "b"


def test_any_stop_at_any_place_cuts_like_a_search_of_the_whole_text(tokenizer: PreTrainedTokenizerFast) -> None:
    numbers = random.Random(3)
    for _ in range(300):
        text = "".join(numbers.choice("abé") for _ in range(30))
        stop = [
            "".join(numbers.choice("abé") for _ in range(numbers.randint(1, 5))) for _ in range(numbers.randint(1, 3))
        ]
        shown, _ = pieces(tokenizer, list(text.encode()), stop=stop)
        ends = [text.find(each) for each in stop if each in text]
        assert text.startswith("".join(shown))
        if not ends:
            assert "".join(shown) == text
        else:
            assert not any(each in "".join(shown) for each in stop)


class SlowTokenizer:
    """A tokenizer without the Rust library behind it, as those of sentencepiece are."""

    def __init__(self, fast: PreTrainedTokenizerFast) -> None:
        self._fast = fast

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return str(self._fast.decode(ids, skip_special_tokens=skip_special_tokens))


@pytest.mark.parametrize("text", TEXTS)
def test_slow_tokenizers_stream_too(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    slow: Any = SlowTokenizer(tokenizer)
    shown, _ = pieces(slow, list(text.encode()))
    assert "".join(shown) == text
    assert not any("\ufffd" in piece for piece in shown)


@pytest.mark.model
def test_a_real_tokenizer_streams_what_it_decodes(smollm2: Any) -> None:
    text = "Grüße, 世界! 🎉👩‍👩‍👧 code: `x += 1`\n\n  indented\t∑∫ 한국어 العربية"
    ids = smollm2.tokenizer.encode(text)
    shown, _ = pieces(smollm2.tokenizer, ids)
    assert "".join(shown) == text
    assert not any("\ufffd" in piece for piece in shown)
