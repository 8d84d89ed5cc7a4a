"""The README.md of an exported model: where it came from, how it was trained, how it is loaded."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tui_trainer.config.catalogue import shown
from tui_trainer.engine.models.locate import ModelSource
from tui_trainer.runs.events import EvalMetrics, StepMetrics, decode
from tui_trainer.runs.files import read_json
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout
from tui_trainer.text import safe_line

_SETTINGS = (
    "stage",
    "model.quantization",
    "model.revision",
    "data.template",
    "data.system",
    "data.max_length",
    "data.train_on",
    "data.packing",
    "lora.r",
    "lora.alpha",
    "lora.dropout",
    "lora.target_modules",
    "lora.use_dora",
    "lora.use_rslora",
    "training.learning_rate",
    "training.lr_scheduler_type",
    "training.warmup_steps",
    "training.optim",
    "training.per_device_train_batch_size",
    "training.gradient_accumulation_steps",
    "training.num_train_epochs",
    "training.max_steps",
    "training.weight_decay",
    "training.bf16",
    "training.seed",
)
"""What is told of a run's configuration; paths and names of the machine are not."""


def model_card(source: ModelSource, kind: str, dtype: str) -> str:
    """The card as Markdown with the header that the hub reads.

    Args:
        source: where the model came from.
        kind: "model", "adapter" or "merged".
        dtype: type of the weights.
    """
    lines = [*_header(source, kind), "", f"# {_title(source)}", "", _summary(source, kind, dtype), ""]
    if source.run is not None:
        lines += [*_training(source, source.run), ""]
    return "\n".join([*lines, *_usage(source, kind)]) + "\n"


def run_settings(source: ModelSource) -> Mapping[str, Any]:
    """The configuration of the run that a model comes from; empty if it comes from none."""
    try:
        return tomllib.loads(source.run.config.read_text("utf-8")) if source.run is not None else {}
    except (OSError, ValueError):
        return {}


def _header(source: ModelSource, kind: str) -> Iterator[str]:
    yield "---"
    yield f"library_name: {'peft' if kind == 'adapter' else 'transformers'}"
    yield "pipeline_tag: text-generation"
    if source.repo_id and source.run:
        yield f"base_model: {source.repo_id}"
    yield "tags:"
    yield "- tui-trainer"
    yield "---"


def _title(source: ModelSource) -> str:
    if source.run is None:
        return safe_line(Path(source.reference).name)
    name = str((read_json(source.run.run) or {}).get("name") or source.run.id)
    return safe_line(f"{name}, step {source.step}")


def _summary(source: ModelSource, kind: str, dtype: str) -> str:
    base = _shown_path(_base(source))
    what = {
        "model": f"A language model, all weights, in {dtype}.",
        "adapter": f"An adapter (PEFT) in {dtype} for {base}.",
        "merged": f"{base} with an adapter merged into its weights, in {dtype}.",
    }[kind]
    quantization = run_settings(source).get("model", {}).get("quantization")
    if kind == "merged" and quantization:
        what += (
            f" The adapter was trained on the base in {quantization}; it is merged into weights that are not rounded."
        )
    return what + " Written by `tui-trainer export`."


def _base(source: ModelSource) -> str:
    if source.adapter is None:
        return str(run_settings(source).get("model", {}).get("name_or_path") or "")
    return source.repo_id or str(source.path)


def _shown_path(text: str) -> str:
    """A name of the hub as it is, a folder of this machine by its name alone."""
    return safe_line(Path(text).name if text.startswith(("/", "~", ".")) else text)


def _training(source: ModelSource, run: RunLayout) -> Iterator[str]:
    info, settings = read_json(run.run) or {}, run_settings(source)
    versions = info.get("versions")
    facts: dict[str, str] = {"run": run.id, "step": str(source.step), **dict(_measured(run, source.step))}
    if base := _base(source):
        facts["base model"] = base
    facts["data"] = ", ".join(_data(settings))
    facts["git commit"] = str(info.get("git_commit") or "")
    facts["libraries"] = ", ".join(f"{n} {v}" for n, v in versions.items()) if isinstance(versions, dict) else ""
    for key in _SETTINGS:
        section, _, name = key.rpartition(".")
        value = settings.get(section, {}).get(name) if section else settings.get(name)
        if value is not None:
            facts[f"`{key}`"] = shown(value)
    yield "## Training"
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    for name, text in facts.items():
        if text:
            yield f"| {name} | {_cell(_shown_path(text))} |"


def _data(settings: Mapping[str, Any]) -> Iterator[str]:
    data = settings.get("data", {})
    for source in data.get("sources") or [data]:
        if path := source.get("path"):
            yield _shown_path(str(path))


def _measured(run: RunLayout, step: int | None) -> Iterator[tuple[str, str]]:
    """The last loss and evaluation up to a step."""
    losses: dict[int, float] = {}
    measures: dict[str, float] = {}
    tailer = Tailer(run.events)
    while lines := tailer.read():
        for line in lines:
            event = decode(line)
            if isinstance(event, StepMetrics) and event.loss is not None and event.step <= (step or 0):
                losses[event.step] = event.loss
            elif isinstance(event, EvalMetrics) and event.step <= (step or 0):
                measures = {
                    name: value for name, value in event.extra.items() if name in ("eval_loss", "eval_exact_match")
                }
    if losses:
        yield "loss", f"{losses[max(losses)]:.4g}"
    for name, value in measures.items():
        yield name, f"{value:.4g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _usage(source: ModelSource, kind: str) -> Iterator[str]:
    yield "## Use"
    yield ""
    yield "```python"
    yield "from transformers import AutoModelForCausalLM, AutoTokenizer"
    yield ""
    yield 'folder = "."  # this folder'
    yield "model = AutoModelForCausalLM.from_pretrained(folder)"
    yield "tokenizer = AutoTokenizer.from_pretrained(folder)"
    yield "```"
    if kind == "adapter" and not source.repo_id:
        yield ""
        yield (
            "`adapter_config.json` names the base by its folder on the machine it was trained on "
            "(`base_model_name_or_path`): put the base's name or folder there, or merge the adapter into it with "
            "`tui-trainer export --merge`."
        )
