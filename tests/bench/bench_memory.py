"""Holds the memory estimate against real training steps on this CPU; prints estimate, measurement and their ratio.

Each case runs in a process of its own, first with the process's anonymous memory sampled (what it needs from the
machine), then under the allocator's profiler (what tensors need at most). Run it with

    python tests/bench/bench_memory.py [CASE …]

Not part of the tests: a full run takes half an hour.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tui_trainer.config.memory import estimate_memory, shape_from_config
from tui_trainer.config.schema import RunConfig

MIB = 2**20
SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
TINY = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "vocab_size": 4096,
}
DATES = {
    "model_type": "llama",
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 259,
}
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 512,
    "n_layer": 6,
    "n_head": 8,
    "vocab_size": 8192,
    **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
}
QWEN3 = {**TINY, "model_type": "qwen3", "head_dim": 64, "num_key_value_heads": 2, "tie_word_embeddings": True}

LORA = {"r": 16}
CASES: dict[str, tuple[dict[str, Any], int, int, dict[str, Any]]] = {
    "smollm2": (SMOLLM2, 4, 256, {}),
    "smollm2, batch 2": (SMOLLM2, 2, 256, {}),
    "smollm2, length 1024": (SMOLLM2, 1, 1024, {}),
    "smollm2, checkpointing": (SMOLLM2, 4, 256, {"training": {"activation_checkpointing": True}}),
    "smollm2, accumulation": (SMOLLM2, 2, 256, {"training": {"gradient_accumulation_steps": 2}}),
    "smollm2, bf16 weights": (SMOLLM2, 4, 256, {"model": {"dtype": "bfloat16"}}),
    "smollm2, mixed bf16": (SMOLLM2, 4, 256, {"training": {"bf16": True}}),
    "smollm2, lora": (SMOLLM2, 4, 256, {"lora": LORA}),
    "smollm2, lora, dropout": (SMOLLM2, 4, 256, {"lora": {**LORA, "dropout": 0.1}}),
    "smollm2, lora, bf16 weights": (SMOLLM2, 4, 256, {"lora": LORA, "model": {"dtype": "bfloat16"}}),
    "smollm2, lora, checkpointing": (SMOLLM2, 4, 256, {"lora": LORA, "training": {"activation_checkpointing": True}}),
    "smollm2, sgd": (SMOLLM2, 2, 256, {"training": {"optim": "sgd"}}),
    "smollm2, adafactor": (SMOLLM2, 2, 256, {"training": {"optim": "adafactor"}}),
    "smollm2, eager": (SMOLLM2, 2, 512, {"model": {"attn_implementation": "eager"}}),
    "tiny": (TINY, 8, 256, {}),
    "tiny, checkpointing": (TINY, 8, 256, {"training": {"activation_checkpointing": True}}),
    "tiny, long": (TINY, 2, 2048, {}),
    "dates": (DATES, 48, 64, {}),
    "qwen3": (QWEN3, 8, 256, {}),
    "gpt2": (GPT2, 4, 256, {}),
}


def _config(case: str) -> tuple[dict[str, Any], RunConfig]:
    model, batch_size, max_length, more = CASES[case]
    tree = {section: dict(values) for section, values in more.items()}
    training = {"use_cpu": True, "per_device_train_batch_size": batch_size} | tree.get("training", {})
    tree |= {"training": training, "data": {"max_length": max_length}}
    return model, RunConfig.model_validate(tree)


def estimate(case: str) -> tuple[int, int]:
    """What is estimated for tensors alone and for the whole process, in bytes."""
    model, config = _config(case)
    memory = estimate_memory(config, shape_from_config(model), 1)
    return memory.total - memory.overhead, memory.total


class Steps:
    """Training steps as `engine.trainer` does them: one flat row, logits where a label asks for them."""

    def __init__(self, case: str) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

        from tui_trainer.engine.trainer.flat import SPLIT_SDPA, FlatCollator

        model, self.config = _config(case)
        self.case, self.torch = case, torch
        fields = {name: value for name, value in model.items() if name != "model_type"}
        dtype = torch.float32 if self.config.model.dtype == "auto" else getattr(torch, self.config.model.dtype)
        is_eager = self.config.model.attn_implementation == "eager"
        built: Any = AutoModelForCausalLM
        self.model = built.from_config(
            AutoConfig.for_model(model["model_type"], **fields),
            dtype=dtype,
            attn_implementation="eager" if is_eager else SPLIT_SDPA,
        ).train()
        if self.config.training.activation_checkpointing:
            self.model.activation_checkpointing_enable()
            self.model.enable_input_require_grads()
        if self.config.lora is not None:
            lora = LoraConfig(
                task_type="CAUSAL_LM",
                r=self.config.lora.r,
                lora_dropout=self.config.lora.dropout,
                target_modules="all-linear",
            )
            self.model = get_peft_model(self.model, lora)
        arguments = TrainingArguments("unused", use_cpu=True, optim=self.config.training.optim)
        kind, values = Trainer.get_optimizer_cls_and_kwargs(arguments)
        self.optimizer = kind([each for each in self.model.parameters() if each.requires_grad], **values)
        length, vocabulary = self.config.data.max_length, int(model["vocab_size"])
        ids = torch.randint(vocabulary, (length,)).tolist()
        rows = [{"input_ids": ids, "labels": ids}] * self.config.training.per_device_train_batch_size
        self.batch = FlatCollator()(rows)
        if is_eager:  # the padded path
            names = ("input_ids", "labels", "attention_mask")
            shape = (self.config.training.per_device_train_batch_size, length)
            self.batch = {name: self.batch[name].reshape(shape) for name in names} | {
                "target_positions": torch.arange(length - 1)
            }

    def forward(self) -> Any:
        """The loss of the batch."""
        inputs = dict(self.batch)
        labels, positions = inputs.pop("labels"), inputs.pop("target_positions")
        with self.torch.autocast("cpu", self.torch.bfloat16, enabled=self.config.training.bf16):
            logits = self.model(**inputs, logits_to_keep=positions, use_cache=False).logits
        targets = labels[:, positions + 1].flatten()
        return self.torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets)

    def step(self) -> None:
        """One update."""
        for _ in range(self.config.training.gradient_accumulation_steps):
            self.forward().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def held(self) -> int:
        """Bytes of weights and optimiser state, which are there all the time."""
        state = [each for values in self.optimizer.state.values() for each in values.values()]
        tensors = [*self.model.parameters(), *(each for each in state if self.torch.is_tensor(each))]
        return sum(each.numel() * each.element_size() for each in tensors)


def measure_tensors(steps: Steps) -> int:
    """The most that the allocator has handed out at one time during a step, with what is held all the time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        steps.step()
    results: Any = profiler.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return steps.held() + most


def measure_process(steps: Steps) -> int:
    """The most anonymous memory of the process during three steps."""
    most, is_done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not is_done.wait(0.002):
            lines = Path("/proc/self/status").read_text().splitlines()
            anonymous = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            most = max(most, anonymous * 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(3):
        steps.step()
    is_done.set()
    watcher.join()
    return most


def _measure(case: str) -> tuple[int, int]:
    """What tensors and the whole process needed, measured in a process of its own."""
    command = [sys.executable, __file__, "--measure", case]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    tensors, process = json.loads(done.stdout.splitlines()[-1])
    return tensors, process


def main(arguments: list[str]) -> None:
    """Measure the named cases, or all, and print a table."""
    if arguments[:1] == ["--measure"]:
        steps = Steps(arguments[1])
        process = measure_process(steps)
        print(json.dumps([measure_tensors(steps), process]))
        return
    print(f"{'case':<32} {'tensors MiB: estimate':>22} {'measured':>9} {'ratio':>6}", end="")
    print(f" {'process MiB: estimate':>23} {'measured':>9} {'ratio':>6}")
    for case in arguments or CASES:
        tensors, process = estimate(case)
        most, resident = _measure(case)
        print(f"{case:<32} {tensors / MIB:>22.0f} {most / MIB:>9.0f} {tensors / most:>6.2f}", end="")
        print(f" {process / MIB:>23.0f} {resident / MIB:>9.0f} {process / resident:>6.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
