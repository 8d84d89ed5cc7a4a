"""How fast we generate, in turns with `transformers.generate`: decoding, several answers, second turns, adapters.

Run it with `python tests/bench/bench_generate.py [--model demo:smollm2] [--rounds 5]`. Each round runs every variant,
one after the other; a figure is the median, a ratio the median of the ratios within a round. Times are CPU times of one
thread, so that a busy machine changes them little.
"""

from __future__ import annotations

import argparse
import copy
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.chat.documents import Documents
from tui_trainer.engine.generate.engine import Engine
from tui_trainer.engine.generate.forward.choose import choose_forward
from tui_trainer.engine.generate.sampling import Sampler
from tui_trainer.engine.generate.side_by_side import together
from tui_trainer.engine.models.adapter import WITHOUT_ADAPTER, add_adapter
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.engine.models.chat_model import load_located, locate_for_chat
from tui_trainer.engine.models.int8 import quantize
from tui_trainer.engine.models.swap import copy_adapter
from tui_trainer.errors import WorkbenchError
from tui_trainer.wire.frames import Item, encode

NUM_TOKENS = 48
PROMPT = "The lighthouse stood at the end of the pier, and every evening the keeper climbed its stairs to light it."


def cpu_seconds(action: Callable[[], Any]) -> float:
    """CPU time of this process while an action runs."""
    started = time.process_time()
    action()
    return time.process_time() - started


def in_turns(variants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each variant in each round; one round before it is not counted."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, action in variants.items():
            seconds = cpu_seconds(action)
            if number:
                times[name].append(seconds)
    return times


def show(title: str, times: Mapping[str, list[float]], base: str, tokens: int | None = None) -> None:
    """Print the medians and what each is in terms of the base, as speed if tokens are given, else as cost."""
    print(f"\n{title}")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        pairs = zip(times[base], seconds, strict=True)
        ratio = statistics.median(first / second if tokens else second / first for first, second in pairs)
        figure = f"{tokens / median:9.1f} tokens/s" if tokens else f"{median * 1e3:9.2f} ms"
        print(f"  {name:44} {figure}  {ratio:6.2f} x")


def host_bound_model() -> LlamaForCausalLM:
    """Many layers with next to no arithmetic: what is measured is the loop around it."""
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=30,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
    )
    model: LlamaForCausalLM = LlamaForCausalLM(config)
    model.train(False)
    return model


def lean_engine(model: Any, tokenizer: PreTrainedTokenizerBase) -> Engine:
    """An engine as a chat session has it."""
    choice = choose_forward(model)
    assert choice.forward.kind == "fused", choice.note
    return Engine(model, tokenizer, [], forward=choice.forward)


def generate(model: Any, ids: list[int], **options: Any) -> None:
    """`transformers.generate` for the same number of tokens."""
    tensor = torch.tensor([ids])
    model.generate(
        tensor,
        attention_mask=torch.ones_like(tensor),
        min_new_tokens=NUM_TOKENS,
        max_new_tokens=NUM_TOKENS,
        pad_token_id=0,
        **options,
    )


def decoding(model: Any, tokenizer: PreTrainedTokenizerBase, ids: list[int], rounds: int) -> None:
    """One answer: greedy and with the usual knobs; through the library's step, the lean one, and weights in 8 bits."""
    small = copy.deepcopy(model)
    quantize(small)
    engines = {
        "library": Engine(model, tokenizer, []),
        "lean": lean_engine(model, tokenizer),
        "int8": lean_engine(small, tokenizer),
    }

    def ours(kind: str = "lean", **knobs: Any) -> None:
        engines[kind].forget()
        engines[kind].generate(ids, SamplingParams(max_tokens=NUM_TOKENS, **knobs))

    variants: dict[str, Callable[[], Any]] = {
        "generate, greedy": lambda: generate(model, ids, do_sample=False),
        "ours with the library's step, greedy": lambda: ours("library", temperature=0.0),
        "ours, greedy": lambda: ours(temperature=0.0),
        "ours with int8 weights, greedy": lambda: ours("int8", temperature=0.0),
        "generate, temperature .8 top_k 50 top_p .95": lambda: generate(
            model, ids, do_sample=True, temperature=0.8, top_k=50, top_p=0.95
        ),
        "ours, temperature .8 top_k 50 top_p .95": lambda: ours(temperature=0.8, top_k=50, top_p=0.95),
        "ours, the same with penalties and logprobs 5": lambda: ours(
            temperature=0.8, top_k=50, top_p=0.95, repetition_penalty=1.1, presence_penalty=0.5, logprobs=5
        ),
    }
    show(f"one answer, prompt of {len(ids)} tokens", in_turns(variants, rounds), "generate, greedy", NUM_TOKENS)


def several_answers(model: Any, tokenizer: PreTrainedTokenizerBase, ids: list[int], rounds: int) -> None:
    """Four answers to a long prompt in terms of one."""
    engine = lean_engine(model, tokenizer)
    long = (ids * (300 // len(ids) + 1))[:300]

    def ours(num: int) -> None:
        engine.forget()
        engine.generate(long, SamplingParams(n=num, max_tokens=24, seed=0))

    times = in_turns({"n = 1": lambda: ours(1), "n = 4": lambda: ours(4)}, rounds)
    show("several answers, prompt of 300 tokens, 24 tokens each", times, "n = 1")


def second_turn(model: Any, tokenizer: PreTrainedTokenizerBase, ids: list[int], rounds: int) -> None:
    """The first token of a second turn after a history of 300 tokens."""
    engine = lean_engine(model, tokenizer)
    history = (ids * (300 // len(ids) + 1))[:300]
    one = SamplingParams(temperature=0.0, max_tokens=1)

    def cold() -> None:
        engine.forget()
        engine.generate(history + ids[:20], one)

    def warm() -> None:
        engine.generate(history + ids[:20], one)

    def first_turn() -> None:
        engine.forget()
        engine.generate(history, one)

    times = in_turns({"cold": cold, "(first turn)": first_turn, "warm": warm}, rounds)
    del times["(first turn)"]
    show("time to first token, 300 tokens of history and 20 new ones", times, "cold")


def streaming(model: Any, tokenizer: PreTrainedTokenizerBase, ids: list[int], rounds: int) -> None:
    """An answer as the worker streams it, document and frames included, in terms of its tokens alone."""
    engine = lean_engine(model, tokenizer)
    documents = Documents(tokenizer)

    def tokens() -> None:
        engine.forget()
        engine.generate(ids, SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS))

    def streamed() -> None:
        engine.forget()
        sink = io.BytesIO()
        for step in engine.stream(ids, SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS)):
            sink.write(encode(Item(1, documents.item(step))))

    show("streaming to the front end", in_turns({"tokens": tokens, "streamed": streamed}, rounds), "tokens")


def with_adapters(model: Any, tokenizer: PreTrainedTokenizerBase, ids: list[int], rounds: int) -> None:
    """Base and adapter from one batch in terms of two runs, and the time to write one adapter over another."""
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder, f"step-{number}") for number in (1, 2)]
        for path in folders:
            config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", init_lora_weights=False)
            made = get_peft_model(model, config)
            made.save_pretrained(str(path))
            model = made.unload()
        adapted = add_adapter(model, folders[0], "other")
        choice = choose_forward(adapted)
        engines = [
            Engine(adapted, tokenizer, [], forward=choice.forward, adapter=name) for name in (WITHOUT_ADAPTER, "other")
        ]
        knobs = SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS)

        def in_turn() -> None:
            for engine in engines:
                engine.forget()
                engine.generate(ids, knobs)

        def at_once() -> None:
            for engine in engines:
                engine.forget()
            for _ in together([engine.stream(ids, knobs) for engine in engines]):
                pass

        variants = {
            "base alone": lambda: only(engines[0], ids, knobs),
            "with the adapter": lambda: only(engines[1], ids, knobs),
        }
        show("one answer of base and adapter", in_turns(variants, rounds), "base alone")
        show("A|B", in_turns({"two runs": in_turn, "one batch": at_once}, rounds), "two runs")
        places = itertools.cycle([folders, folders[::-1]])

        def swap() -> None:
            new, old = next(places)
            assert copy_adapter(adapted, "other", new, old)
            choice.forward.refresh()

        show("another adapter in its place", in_turns({"swap": swap}, rounds), "swap")


def only(engine: Engine, ids: list[int], knobs: SamplingParams) -> None:
    """An answer with nothing kept."""
    engine.forget()
    engine.generate(ids, knobs)


def choose_with(warpers: list[Any], logits: torch.Tensor) -> None:
    """One token by transformers' warpers and a multinomial draw."""
    scores = logits.clone()
    for warper in warpers:
        scores = warper(torch.zeros(1, 1, dtype=torch.long), scores)
    torch.multinomial(scores.softmax(-1), 1)


def choose(logits: torch.Tensor, **knobs: Any) -> None:
    """One token by our sampler."""
    Sampler(SamplingParams(temperature=0.8, **knobs), [], [], 0, 1, logits.device).choose(logits)


def sampling(rounds: int) -> None:
    """Choosing one token: transformers' warpers and draw against ours."""
    for vocabulary in (49_152, 151_936):
        logits = torch.randn(1, vocabulary) * 4
        warpers: list[Any] = [TemperatureLogitsWarper(0.8), TopKLogitsWarper(50), TopPLogitsWarper(0.95)]

        variants: dict[str, Callable[[], Any]] = {
            "transformers, temperature top_p": partial(choose_with, [warpers[0], warpers[2]], logits),
            "ours, temperature top_p": partial(choose, logits, top_p=0.95),
            "transformers, temperature top_k top_p": partial(choose_with, warpers, logits),
            "ours, temperature top_k top_p": partial(choose, logits, top_k=50, top_p=0.95),
            "ours, temperature": partial(choose, logits),
        }
        times = in_turns(variants, rounds * 5)
        show(f"choosing one token of {vocabulary}", times, "transformers, temperature top_p")


def main() -> None:
    """Measure the tiny model, and the demo model or another one if it can be had."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo:smollm2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {arguments.threads} threads, medians of {arguments.rounds} rounds in turns")
    sampling(arguments.rounds)
    print("\n== 30 layers, hidden 64: the host")
    tiny, tokenizer = host_bound_model(), bytes_tokenizer()
    ids = list(PROMPT.encode()[:46])
    decoding(tiny, tokenizer, ids, arguments.rounds)
    several_answers(tiny, tokenizer, ids, arguments.rounds)
    second_turn(tiny, tokenizer, ids, arguments.rounds)
    streaming(tiny, tokenizer, ids, arguments.rounds)
    try:
        loaded = load_located(locate_for_chat(arguments.model), device="cpu")
    except WorkbenchError as error:
        print(f"\n{arguments.model} is not measured: {error}")
        return
    print(f"\n== {arguments.model}, {loaded.num_parameters / 1e6:.0f} M parameters")
    ids = loaded.tokenizer.encode(PROMPT * 2)[:46]
    decoding(loaded.model, loaded.tokenizer, ids, arguments.rounds)
    several_answers(loaded.model, loaded.tokenizer, ids, arguments.rounds)
    second_turn(loaded.model, loaded.tokenizer, ids, arguments.rounds)
    streaming(loaded.model, loaded.tokenizer, ids, arguments.rounds)
    with_adapters(loaded.model, loaded.tokenizer, ids, arguments.rounds)


if __name__ == "__main__":
    main()
