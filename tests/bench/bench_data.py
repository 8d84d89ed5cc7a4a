"""What the data path costs: opening a large file, tokenising a whole set, the next sample.

With `trl` importable, its `SFTTrainer` with assistant-only loss is compared too: install the package beside, as by
`pip install --no-deps --target FOLDER trl`, and put the folder on PYTHONPATH. Run it with
`python tests/bench/bench_data.py [--megabytes 200] [--rounds 3] [--model FOLDER]`. Variants run in turns, each opening
in a process of its own with its libraries loaded; a figure is the median of CPU seconds, a ratio the median of the
ratios within a round. The figure that counts is the one with a real model's tokenizer, given by --model, since that is
what people train with. Without it a small tokenizer is trained on the generated text, for machines without a model; the
ratios with it are not the figure.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ message['content'] + "
    "'<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

OURS = """
import json, sys, time
from tui_trainer.config.data import SourceFields
from tui_trainer.engine.data.sources.opening import open_dataset
import tui_trainer.engine.data.sources.json_lines
started = time.process_time(), time.perf_counter()
source = open_dataset(SourceFields(path=sys.argv[1])).splits["train"]
rows = source.rows(0, 50)
first = time.process_time() - started[0], time.perf_counter() - started[1]
count = source.count()
whole = time.process_time() - started[0], time.perf_counter() - started[1]
jump = time.perf_counter()
source.rows(count - 10, count)
jump = time.perf_counter() - jump
status = open("/proc/self/status").read()
print(json.dumps([first, whole, count, jump, int(status.partition("VmHWM:")[2].split()[0]) / 1024]))
"""
THEIRS = """
import json, sys, time, tempfile
import datasets
datasets.disable_progress_bars()
import pandas
with tempfile.TemporaryDirectory() as cache:
    started = time.process_time(), time.perf_counter()
    rows = datasets.load_dataset("json", data_files=sys.argv[1], cache_dir=cache, split="train")
    rows[:50]
    first = time.process_time() - started[0], time.perf_counter() - started[1]
    status = open("/proc/self/status").read()
    print(json.dumps([first, first, len(rows), 0.0, int(status.partition("VmHWM:")[2].split()[0]) / 1024]))
"""


def conversations(seed: int) -> Iterator[dict[str, Any]]:
    """Rows of one question and one answer, of a few dozen to a few hundred words."""
    generator = random.Random(seed)
    syllables = ["ka", "to", "mi", "ren", "sol", "ing", "the", "ver", "an", "pro", "den", "ly", "est", "ur", "ba"]
    words = ["".join(generator.choices(syllables, k=generator.randint(1, 4))) for _ in range(5000)]
    while True:
        question, answer = (
            " ".join(generator.choices(words, k=min(int(generator.lognormvariate(3.6, 0.8)) + 3, 400)))
            for _ in range(2)
        )
        yield {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write(path: Path, num_bytes: int) -> int:
    """Write rows up to a size; returns how many."""
    block = [json.dumps(row) + "\n" for row, _ in zip(conversations(0), range(5000), strict=False)]
    written = count = 0
    with path.open("w") as file:
        while written < num_bytes:
            for line in block:
                written += file.write(line)
                count += 1
                if written >= num_bytes:
                    break
    return count


def in_turns(variants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """What each variant returns in each round; one round before it is not counted."""
    results: dict[str, list[Any]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, action in variants.items():
            result = action()
            if number:
                results[name].append(result)
    return results


def ratio(left: list[float], right: list[float]) -> float:
    """The median of the ratios of the rounds."""
    return statistics.median(one / other for one, other in zip(left, right, strict=True))


def bench_opening(path: Path, rounds: int) -> None:
    """First rows and exact count against `load_dataset`."""
    size = path.stat().st_size / 1e6

    def run(code: str) -> Any:
        command = [sys.executable, "-c", code, str(path)]
        return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    results = in_turns({"ours": lambda: run(OURS), "load_dataset": lambda: run(THEIRS)}, rounds)
    ours, theirs = results["ours"], results["load_dataset"]
    assert ours[0][2] == theirs[0][2], "both count the same rows"
    print(f"opening {size:.0f} MB of JSON lines, {ours[0][2]:,} rows (medians)")
    for name, runs in results.items():
        first = statistics.median(run[0][1] for run in runs)
        whole = statistics.median(run[1][1] for run in runs)
        peak = statistics.median(run[4] for run in runs)
        print(f"  {name:13} first rows {first * 1e3:9.1f} ms   exact count {whole:7.2f} s   peak {peak:5.0f} MiB")
    print(f"  last ten rows, reached directly: {statistics.median(run[3] for run in ours) * 1e3:.2f} ms")
    begin = ratio([run[0][1] for run in ours], [run[0][1] for run in theirs])
    count = ratio([run[1][0] for run in ours], [run[1][0] for run in theirs])
    print(f"  first rows {begin:.4f} of load_dataset (wall), exact count {count:.3f} of load_dataset (CPU)")


def trained_tokenizer(folder: Path) -> Path:
    """A byte-level BPE of 8,192 tokens trained on the generated text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in ("<|im_start|>", "<|im_end|>")]
    trainer = trainers.BpeTrainer(vocab_size=8192, special_tokens=special, show_progress=False)
    texts = (row["messages"][0]["content"] for row, _ in zip(conversations(1), range(2000), strict=False))
    tokenizer.train_from_iterator(texts, trainer)
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>").save_pretrained(folder)
    return folder


def bench_tokenising(path: Path, model: Path, template: Path, rounds: int) -> None:
    """Render, tokenise and mask a whole set, against `encode_batch` on the same texts and against `datasets.map`."""
    import datasets
    from transformers import AutoTokenizer

    from tui_trainer.config.schema import RunConfig
    from tui_trainer.engine.data.pipeline import BATCH_ROWS
    from tui_trainer.engine.data.session import DataSession

    datasets.disable_progress_bars()
    datasets.disable_caching()
    data = {"path": str(path), "template": str(template), "max_length": 1 << 20}
    settings = {"data": data, "model": {"tokenizer_name_or_path": str(model)}}
    session = DataSession(RunConfig.model_validate(settings))
    pipeline = session.pipeline()
    reference: Any = AutoTokenizer.from_pretrained(model)
    rows = datasets.Dataset.from_list([record.value for record in session.records(0, session.count())])
    examples: list[Any] = []

    def ours() -> None:
        examples[:] = [example for batch in session.rows.batches(BATCH_ROWS) for example in pipeline.examples(batch)]

    def mapped(row: Any) -> dict[str, Any]:
        encoded = reference.apply_chat_template(
            row["messages"], chat_template=TEMPLATE, return_dict=True, return_assistant_tokens_mask=True
        )
        return {"input_ids": encoded["input_ids"], "mask": encoded["assistant_masks"]}

    ours()
    texts = [example.text for example in examples]
    tokenizer = pipeline.tokenizer
    variants: dict[str, Callable[[], Any]] = {
        "ours": ours,
        "encode_batch": lambda: [encoding.ids for encoding in tokenizer.encode_batch(texts)],
        "encode_batch_fast": lambda: [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)],
        "datasets.map": lambda: rows.map(mapped, keep_in_memory=True, load_from_cache_file=False),
    }

    prepared: list[Any] = []
    if trl_trains := trl_preparation(rows, reference):
        variants["SFTTrainer of trl"] = lambda: prepared.append(trl_trains())

    def timed(action: Callable[[], Any]) -> float:
        started = time.process_time()
        action()
        return time.process_time() - started

    def timer(action: Callable[[], Any]) -> Callable[[], float]:
        return lambda: timed(action)

    times = in_turns({name: timer(action) for name, action in variants.items()}, rounds)
    check = rows.select(range(50)).map(mapped, keep_in_memory=True, load_from_cache_file=False)
    for example, row in zip(examples, check, strict=False):
        assert example.input_ids == row["input_ids"]
        assert [label != -100 for label in example.labels] == [bool(mark) for mark in row["mask"]]
    for example, row in zip(examples, prepared[-1] if prepared else (), strict=False):
        assert example.input_ids == row["input_ids"]
        assert example.labels == row["labels"]
    num_tokens = sum(example.num_tokens for example in examples)
    print(f"tokenising {len(texts):,} conversations, {num_tokens:,} tokens (median CPU seconds)")
    for name, seconds in times.items():
        print(f"  {name:18} {statistics.median(seconds):7.2f} s")
    for name in [name for name in times if name != "ours"]:
        print(f"  speed is {ratio(times[name], times['ours']):.2f} of {name}")


def trl_preparation(rows: Any, tokenizer: Any) -> Callable[[], Any] | None:
    """What trl does with a dataset before training with assistant-only loss; None where trl is not to be had."""
    try:
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        print(f"trl cannot be imported ({error}); its SFTTrainer is not compared")
        return None
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer.chat_template = TEMPLATE
    shape: Any = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape))
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(), assistant_only_loss=True, max_length=1 << 20, use_cpu=True, report_to="none"
    )

    def prepare() -> Any:
        trainer = SFTTrainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
        return trainer.train_dataset

    return prepare


def bench_samples(path: Path, model: Path, template: Path) -> None:
    """The next sample's mask, and opening a judged set again."""
    from tui_trainer.config.schema import RunConfig
    from tui_trainer.engine.data.samples import Samples
    from tui_trainer.engine.data.session import DataSession

    data = {"path": str(path), "template": str(template)}
    settings = {"data": data, "model": {"tokenizer_name_or_path": str(model)}}
    config = RunConfig.model_validate(settings)
    DataSession(config).verdict()
    started = time.process_time()
    session = DataSession(config)
    session.verdict()
    again = time.process_time() - started
    waits, samples = [], Samples(session)
    for row in range(100):
        began = time.perf_counter()
        samples.document(row)
        waits.append(time.perf_counter() - began)
    print(f"second open with its verdict: {again:.3f} CPU seconds")
    print(f"next sample: median {statistics.median(waits) * 1e3:.1f} ms, longest {max(waits) * 1e3:.1f} ms")


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200, help="size of the file that is opened")
    parser.add_argument("--rows", type=int, default=5000, help="rows that are tokenised")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, help="folder of a tokenizer")
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUI_TRAINER_HOME"] = str(Path(folder) / "home")
        large = Path(folder) / "large.jsonl"
        write(large, arguments.megabytes * 1_000_000)
        bench_opening(large, arguments.rounds)
        large.unlink()
        small = Path(folder) / "small.jsonl"
        rows = [json.dumps(row) for row, _ in zip(conversations(2), range(arguments.rows), strict=False)]
        small.write_text("\n".join(rows) + "\n")
        template = Path(folder) / "template.jinja"
        template.write_text(TEMPLATE)
        model = arguments.model or trained_tokenizer(Path(folder) / "tokenizer")
        bench_tokenising(small, model, template, arguments.rounds)
        bench_samples(small, model, template)


if __name__ == "__main__":
    main()
