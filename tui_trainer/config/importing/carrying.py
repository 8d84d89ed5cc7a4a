"""Keeping the books of an import: every key of the other tool's file is carried over, or it is said why not.

A tool's module describes its field names as a `Tool`; the `Carrier` goes through one file. Values are fitted to our
schema one by one, so that what does not fit is left out with the reason, and the rest is a valid configuration.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from tui_trainer.config.catalogue import ALIASES, Knob, catalogue, check_value, parse_text, shown
from tui_trainer.config.optimisers import OPTIMISERS
from tui_trainer.config.toml import Document
from tui_trainer.config.training import RESERVED
from tui_trainer.errors import ConfigurationError, Problem
from tui_trainer.redact import MASK, holds_token, is_secret_name
from tui_trainer.text import shortened

Kind = Literal["left_out", "changed", "default", "unknown"]

_MAX_SHOWN = 60
_ALL_LINEAR = ("all", "all-linear")


@dataclass(frozen=True)
class Remark:
    """What became of one key of the other tool.

    Attributes:
        kind: left out, carried over with another meaning or value, a default of the tool written out, or unknown to us.
        key: its name there; for a default its name here.
        value: its value as text, secrets masked.
        why: the reason, or what is different now.
        where: "file:line".
    """

    kind: Kind
    key: str
    value: str
    why: str
    where: str = ""


@dataclass(frozen=True)
class Tool:
    """How another tool names things.

    Attributes:
        name: as after `--from`.
        title: as the tool calls itself.
        signs: keys by which its files are recognised.
        keys: its key to ours, for values that mean the same.
        left_out: its key, or how its key begins with a star behind, to the reason why it is not carried over.
        idle: keys that say nothing about what is trained: where things are written, caches, progress.
        defaults: our key to what the tool does when its file says nothing, where we do something else.
        convert: carries over what needs more than another name; called first.
        has_training_arguments: whether its files hold fields of `transformers.TrainingArguments` by their names.
    """

    name: str
    title: str
    signs: frozenset[str]
    keys: Mapping[str, str]
    left_out: Mapping[str, str]
    idle: frozenset[str]
    defaults: Mapping[str, Any]
    convert: Callable[[Carrier], None]
    has_training_arguments: bool = True


TRAINING_KEYS: dict[str, str] = {
    **{key.rpartition(".")[2]: key for key in catalogue() if key.startswith("training.")},
    "evaluation_strategy": "training.eval_strategy",
    "gradient_checkpointing": "training.activation_checkpointing",
    "gradient_checkpointing_kwargs": "training.activation_checkpointing_kwargs",
    "group_by_length": "training.group_by_length",
    "no_cuda": "training.use_cpu",
    "per_gpu_train_batch_size": "training.per_device_train_batch_size",
    "per_gpu_eval_batch_size": "training.per_device_eval_batch_size",
}
"""`transformers.TrainingArguments`, former names among them."""

_LOST = {
    "resume_from_checkpoint": RESERVED["resume_from_checkpoint"],
    "hub_token": RESERVED["hub_token"],
    "push_to_hub_token": RESERVED["hub_token"],
    "tpu_num_cores": "TPUs are not supported",
}
_IDLE = {*RESERVED, "overwrite_output_dir", "logging_dir", "save_safetensors", "predict_with_generate", "jit_mode_eval"}


@dataclass
class Carrier:
    """One import on its way.

    Attributes:
        tool: whose file it is.
        document: the file.
        folder: where it lies.
        values: what was carried over, by our dotted keys.
        remarks: what was not, or not unchanged.
        idle: keys that were left aside because nothing depends on them.
        num_carried: how many of its keys were carried over.
    """

    tool: Tool
    document: Document
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)
    num_carried: int = 0
    _seen: set[str] = field(default_factory=set)

    def carry(self) -> None:
        """Go through the whole file."""
        self.tool.convert(self)
        for key in list(self.document.tree):
            if key not in self._seen:
                self._carry_plain(key)
        for ours, value in self.tool.defaults.items():
            self.default(ours, value)
        self._check_once_only()

    def _check_once_only(self) -> None:
        """Where FSDP computes activations again by itself, it is not asked for twice."""
        sharding = self.values.get("training.fsdp_config")
        if isinstance(sharding, Mapping) and sharding.get("activation_checkpointing"):
            for name in ("activation_checkpointing", "activation_checkpointing_kwargs"):
                self.values.pop(f"training.{name}", None)
            self.change("gradient_checkpointing", "training.fsdp_config does it")

    def take(self, key: str) -> Any:
        """The value of a key that is dealt with now; None if it is not set."""
        self._seen.add(key)
        return self.document.tree.get(key)

    def plain(self, key: str) -> Any:
        """As `take`, but never a list or table: where a word is expected, its text stands for it and fits nothing."""
        value = self.take(key)
        return str(value) if isinstance(value, (list, dict)) else value

    def put_called(self, ours: str, key: str, names: Mapping[Any, Any]) -> bool:
        """As `put`, for a value that they call otherwise; one without a name here is tried as it is."""
        value = self.plain(key)
        return self.put(ours, names.get(value, value), key)

    def has(self, key: str) -> bool:
        """Whether a key is set to anything but nothing."""
        return self.document.tree.get(key) not in (None, False, "", [], {})

    def put(self, ours: str, value: Any, key: str) -> bool:
        """Set one of our keys from one of theirs; whether the value is permitted here."""
        self._seen.add(key)
        if value is None:
            return False
        if _holds_secret(value):
            self.leave(key, "holds what looks like a token, and a configuration is written into files")
            return False
        try:
            self.values[ours] = fitted(ours, value)
        except ValueError as error:
            self.leave(key, f"{ours} {error}")
            return False
        self.num_carried += 1
        return True

    def rename(self, keys: Mapping[str, str]) -> None:
        """Carry over keys whose values mean the same."""
        for key, ours in keys.items():
            self.put(ours, self.take(key), key)

    def leave(self, key: str, why: str) -> None:
        """Leave a key out; nothing is lost if it is not set."""
        self._note("left_out", key, why)

    def change(self, key: str, what: str) -> None:
        """Say that a key was carried over with another meaning or value."""
        self._note("changed", key, what)

    def skip(self, *keys: str) -> None:
        """Leave aside keys on which nothing depends."""
        for key in keys:
            self._seen.add(key)
            if self.has(key) and key not in self.idle:
                self.idle.append(key)

    def default(self, ours: str, value: Any, why: str = "") -> None:
        """Write out what the tool does when its file says nothing, unless the file said something."""
        if ours in self.values or value == catalogue()[ours].default or (ours[:5] == "lora." and not self.has_lora):
            return
        if any(ours == target and alias in self.values for alias, target in ALIASES.items()):
            return
        self.values[ours] = value
        reason = why or f"what {self.tool.title} does when nothing is said"
        self.remarks.append(Remark("default", ours, shown(value), reason))

    @property
    def has_lora(self) -> bool:
        """Whether an adapter is trained."""
        return any(key.startswith("lora.") for key in self.values)

    def sources(self, sources: Sequence[Mapping[str, Any]]) -> None:
        """Set the data: one source as `[data]`, several as `[[data.sources]]`."""
        if len(sources) == 1:
            self.values |= {f"data.{name}": value for name, value in sources[0].items()}
        elif sources:
            self.values["data.sources"] = [dict(source) for source in sources]

    def name_after(self, *keys: str) -> None:
        """Name the run after the first of these keys that is set, a path after its last part, else after the file."""
        candidates = [self.take(key) for key in keys]
        texts = [str(text) for text in candidates if isinstance(text, (str, int)) and str(text).strip()]
        parts = [Path(text).name for text in (*texts, Path(self.document.path).stem)]
        names = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-._")[:64] for part in parts]
        self.values["name"] = next((name for name in names if name), "imported")

    def refuse(self, key: str, known: Iterable[str]) -> NoReturn:
        """Give the import up, since a key asks for another training than we have.

        Raises:
            ConfigurationError: always.
        """
        value = shown(self.document.tree.get(key))
        problem = Problem(key, f"{value} is not trained here", f"what is: {', '.join(known)}", self.where(key))
        raise ConfigurationError.of([problem])

    def where(self, key: str) -> str:
        """The "file:line" of a key."""
        return self.document.where((key,))

    def _note(self, kind: Kind, key: str, why: str) -> None:
        self._seen.add(key)
        value = self.document.tree.get(key)
        if self.has(key) or (kind == "changed" and value is not None):
            remark = Remark(kind, key, _brief(key, value), why, self.where(key))
            if remark not in self.remarks:
                self.remarks.append(remark)

    def _carry_plain(self, key: str) -> None:
        """Carry over, leave out or leave aside a key by the tables alone."""
        tool, value = self.tool, self.take(key)
        if value is None:
            return
        ours = tool.keys.get(key) or (TRAINING_KEYS.get(key) if tool.has_training_arguments else None)
        lost = _reason(tool.left_out, key) or (_LOST.get(key) if tool.has_training_arguments else None)
        if ours is not None:
            self.put(ours, value, key)
        elif lost is not None:
            self.leave(key, lost)
        elif key in tool.idle or (tool.has_training_arguments and key in _IDLE):
            self.skip(key)
        else:
            why = f"not a key of {tool.title} that tui-trainer knows"
            self.remarks.append(Remark("unknown", key, _brief(key, value), why, self.where(key)))


def _reason(left_out: Mapping[str, str], key: str) -> str | None:
    beginnings = (name for name in left_out if name.endswith("*") and key.startswith(name[:-1]))
    return left_out.get(key) or next((left_out[name] for name in beginnings), None)


def fitted(ours: str, value: Any) -> Any:
    """A value of a YAML file as our schema wants it: "1e-4" is a text there, `no` is false, 8.0 may be a whole number.

    Raises:
        ValueError: it is not permitted; the message says what is.
    """
    knob: Knob = catalogue()[ALIASES.get(ours, ours)]
    value = _without_nothing(value)
    if ours == "training.fsdp" and isinstance(value, list):
        value = " ".join(map(str, value)) or None
    if ours == "training.optim" and (not isinstance(value, str) or value not in OPTIMISERS):
        raise ValueError(f"knows no optimiser {shown(value)}")
    if isinstance(value, bool):
        if ours == "training.group_by_length":
            return value
        if knob.kind in ("choice", "text") and not value and "no" in knob.choices:
            return "no"
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a number that ends, not {shown(value)}")
    elif ours == "training.warmup_ratio" and isinstance(value, (int, float)) and not 0 <= value < 1:
        raise ValueError(f"must be at least 0 and below 1, not {shown(value)}")
    elif isinstance(value, str) and knob.kind in ("bool", "int", "float"):
        return parse_text(knob, value)
    elif isinstance(value, float) and knob.kind == "int" and value.is_integer():
        return check_value(knob, int(value))
    return check_value(knob, value)


def _without_nothing(value: Any) -> Any:
    """A value without the empty entries that YAML has and TOML has not."""
    if isinstance(value, Mapping):
        return {str(key): _without_nothing(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nothing(item) for item in value if item is not None]
    return value


def module_names(value: Any) -> Any:
    """Target layers: "all-linear", a list of names, or a regular expression, from any way to write them."""
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _ALL_LINEAR:
            return "all-linear"
        names = [name for name in re.split(r"[,\s]+", text) if name]
        return names if all(re.fullmatch(r"[\w.]+", name) for name in names) else text
    if isinstance(value, (list, tuple)):
        names = [str(name) for name in value]
        return "all-linear" if any(name.lower() in _ALL_LINEAR for name in names) else names
    return value


def listed(value: Any) -> list[Any]:
    """A value that may be a list, a text with commas, or nothing, as a list."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def is_count(value: Any) -> bool:
    """Whether a value is a number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def warm_up(carrier: Carrier) -> None:
    """Warm-up in steps or as a share; a number of steps wins where both are set, as in `transformers`."""
    steps, ratio = carrier.take("warmup_steps"), carrier.take("warmup_ratio")
    if steps not in (None, 0, "0"):
        carrier.put("training.warmup_steps", steps, "warmup_steps")
        carrier.leave("warmup_ratio", "warmup_steps is set too, and wins")
    elif ratio is not None:
        carrier.put("training.warmup_ratio", ratio, "warmup_ratio")
    elif steps is not None:
        carrier.put("training.warmup_steps", steps, "warmup_steps")


def quantised(carrier: Carrier) -> None:
    """`load_in_4bit` and `load_in_8bit`, as bitsandbytes calls it."""
    for key, ours in (("load_in_8bit", "int8"), ("load_in_4bit", "nf4")):
        if carrier.take(key):
            carrier.put("model.quantization", ours, key)


def held_out_share(carrier: Carrier, key: str) -> None:
    """A share of the rows to evaluate on; 1 and more is a number of rows to other tools."""
    size = carrier.take(key)
    if isinstance(size, (int, float)) and size >= 1:
        carrier.leave(key, "a number of rows cannot be held out, only a share: data.eval_split = 0.1")
    elif size:
        carrier.put("data.eval_split", float(size) if isinstance(size, (int, float)) else size, key)


def _holds_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_secret(item) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple)):
        return any(map(_holds_secret, value))
    return isinstance(value, str) and holds_token(value)


def _brief(key: str, value: Any) -> str:
    if is_secret_name(key) or _holds_secret(value):
        return MASK
    return shortened(shown(value), _MAX_SHOWN)
