"""What the workbench costs a training: tokens a second of `tui-trainer train` against the same training in a script.

Run it with `python tests/bench/bench_training.py`. Both train the same tiny model on the same flat batches with
`transformers.Trainer`, in turns, each in a process of its own. A figure is the median rate of the steps, the first ten
left out; the rate the fastest tenth reach tells what the code can do when the machine lets it. The script knows no
events, no control, no run directory. A third figure is the library's trainer with padded batches.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TARGET = 0.97
WARM_UP = 10

CONFIG = """
name = "bench"
[model]
tokenizer_name_or_path = "builtin:bytes"
[model.from_scratch]
model_type = "llama"
hidden_size = 128
intermediate_size = 384
num_hidden_layers = 4
num_attention_heads = 4
num_key_value_heads = 4
max_position_embeddings = 1024
[data]
path = "demo:stories"
max_length = 512
[training]
use_cpu = true
max_steps = {steps}
per_device_train_batch_size = 4
learning_rate = 1e-3
save_strategy = "no"
train_sampling_strategy = "sequential"
[launch]
num_processes = 1
num_cpu_threads_per_process = 1
"""

SCRIPT = """
import json, sys, time
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, PrinterCallback
from tui_trainer.config.load import load_config
from tui_trainer.engine.data.prepare import prepare_data
from tui_trainer.engine.models.load import load_model_for_training
from tui_trainer.engine.models.tokenizer import load_tokenizer
from tui_trainer.engine.trainer.flat import SPLIT_SDPA, FlatCollator

kind, path, steps, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
config = load_config(path, ["stage=pretrain"]).config
tokenizer = load_tokenizer(config.model)
data = prepare_data(config, tokenizer)
model = load_model_for_training(config, tokenizer)
if kind == "flat":
    model.set_attn_implementation(SPLIT_SDPA)

class Plain(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if "target_positions" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels, positions = inputs.pop("labels"), inputs.pop("target_positions")
        logits = model(**inputs, logits_to_keep=positions).logits[0].float()
        return torch.nn.functional.cross_entropy(logits, labels[0, positions + 1], reduction="sum") / num_items_in_batch

class Clock(TrainerCallback):
    times = []
    def on_step_end(self, *_, **__):
        self.times.append(time.perf_counter())

trainer = Plain(
    model=model,
    args=TrainingArguments(
        output_dir=folder, use_cpu=True, max_steps=steps, per_device_train_batch_size=4, learning_rate=1e-3,
        save_strategy="no", train_sampling_strategy="sequential", logging_steps=1, report_to="none", disable_tqdm=True,
        remove_unused_columns=False,
    ),
    train_dataset=data.train,
    data_collator=FlatCollator() if kind == "flat" else data.collator,
    callbacks=[Clock()],
)
trainer.remove_callback(PrinterCallback)
trainer.train()
lengths = [len(data.train[index]["input_ids"]) for index in range(4 * steps)]
tokens = [sum(lengths[4 * step : 4 * step + 4]) for step in range(1, steps)]
seconds = [later - earlier for earlier, later in zip(Clock.times, Clock.times[1:])]
print(json.dumps([count / second for count, second in zip(tokens, seconds)]))
"""


def script_rates(kind: str, config: Path, steps: int, folder: Path) -> list[float]:
    """Tokens a second of each step of the script."""
    command = [sys.executable, "-c", SCRIPT, kind, str(config), str(steps), str(folder / "out")]
    done = subprocess.run(command, env=environment(folder), stdout=subprocess.PIPE, text=True, check=True)
    rates: list[float] = json.loads(done.stdout.splitlines()[-1])
    return rates[WARM_UP:]


def workbench_rates(config: Path, folder: Path) -> list[float]:
    """Tokens a second of each step through the command."""
    command = [sys.executable, "-m", "tui_trainer", "train", str(config), "--set", "stage=pretrain", "--json"]
    done = subprocess.run(command, env=environment(folder), stdout=subprocess.PIPE, text=True, check=True)
    events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    return [event["tokens_per_second"] for event in events if event["type"] == "StepMetrics"][WARM_UP + 1 :]


def environment(folder: Path) -> dict[str, str]:
    """One thread, and all state in a folder of its own."""
    state = {"TUI_TRAINER_HOME": str(folder / "home"), "TUI_TRAINER_RUNS": str(folder / "runs")}
    return {**os.environ, "OMP_NUM_THREADS": "1", **state}


def main() -> int:
    """Measure in turns; returns 1 if the ratio is below the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {"workbench": [], "script": [], "padded": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "bench.toml"
        config.write_text(CONFIG.format(steps=arguments.steps))
        for _ in range(arguments.rounds):
            rates["script"] += script_rates("flat", config, arguments.steps, folder)
            rates["workbench"] += workbench_rates(config, folder)
            rates["padded"] += script_rates("padded", config, arguments.steps, folder)
    middle = {kind: statistics.median(found) for kind, found in rates.items()}
    for kind, rate in middle.items():
        print(f"{kind:10} {rate:9.0f} tokens/s, median of {len(rates[kind])} steps")
    ratio = middle["workbench"] / middle["script"]
    fast = {kind: statistics.quantiles(found, n=10)[-1] for kind, found in rates.items()}
    print(f"workbench / script {ratio:.3f} (target {TARGET})")
    print(f"workbench / script in the fastest tenth {fast['workbench'] / fast['script']:.3f}")
    print(f"workbench / the library's trainer with padded batches {middle['workbench'] / middle['padded']:.2f}")
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
