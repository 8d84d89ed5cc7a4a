"""axolotl's datasets: types with columns of their own, prompt styles, held-out rows; called by `axolotl`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tui_trainer.config.importing import reasons
from tui_trainer.config.importing.carrying import Carrier, held_out_share

_FILE_TYPES = ("json", "csv", "parquet", "arrow", "text")
_TEMPLATES = {"chatml": "chatml", "alpaca": "instruction"}
_OWN_TEMPLATES = ("tokenizer_default", None)
_TRUNCATION = {"drop": "drop", "truncate": "right", "raise": "error"}

_TYPES: dict[str, dict[str, Any]] = {
    "alpaca": {"format": "alpaca"},
    "gpteacher": {"format": "alpaca", "columns": {"output": "response"}},
    "sharegpt": {"format": "sharegpt"},
    "completion": {"format": "text"},
    "pretrain": {"format": "text"},
    "alpaca_chat": {"format": "alpaca"},
    "alpaca_chat.load_qa": {"format": "prompt_completion", "columns": {"prompt": "question", "completion": "answer"}},
    "oasst": {
        "format": "prompt_completion",
        "columns": {"prompt": "INSTRUCTION", "completion": "RESPONSE"},
    },
}
"""Its dataset types whose rows we read the same way."""

_COPIED = ("path", "name", "split", "revision")
_FIELDS = {
    "field_instruction": "instruction",
    "field_input": "input",
    "field_output": "output",
    "field_system": "system",
}
_PREFERENCE_FIELDS = {"field_prompt": "prompt", "field_chosen": "chosen", "field_rejected": "rejected"}
_KNOWN = {*_COPIED, *_PREFERENCE_FIELDS, "type", "data_files", "ds_type", "field", "text_column", "field_messages"}
_KNOWN |= {"message_property_mappings", "message_field_role", "message_field_content", "roles", "chat_template"}
_KNOWN |= {"field_tools", "field_system", "chat_template_jinja", "roles_to_train", "train_on_eos"}


def carry_data(carrier: Carrier, stage: str) -> None:
    """Carry over datasets, template, lengths and what is held out."""
    key = "pretraining_dataset" if carrier.has("pretraining_dataset") else "datasets"
    value = carrier.take(key)
    entries = value if isinstance(value, list) else [value] if value else []
    sources = [source for entry in entries for source in _sources(carrier, key, entry, stage)]
    carrier.sources(sources)
    carrier.num_carried += bool(sources)
    if key == "pretraining_dataset":
        carrier.values["data.streaming"] = True
        carrier.change(key, "is read as training goes, so that training.max_steps has to be set")
    _template(carrier, entries)
    _lengths(carrier)
    _held_out(carrier, stage)
    if carrier.take("train_on_inputs"):
        carrier.put("data.train_on", "all", "train_on_inputs")
    workers = "dataset_num_proc" if carrier.has("dataset_num_proc") else "dataset_processes"
    carrier.put("data.num_proc", carrier.take(workers), workers)
    carrier.skip("dataset_processes", "shuffle_merged_datasets", "skip_prepare_dataset")
    carrier.put("data.system", carrier.take("default_system_message"), "default_system_message")
    carrier.put("data.template_kwargs", carrier.take("chat_template_kwargs"), "chat_template_kwargs")


def _sources(carrier: Carrier, key: str, entry: Any, stage: str) -> list[dict[str, Any]]:
    """One of its datasets as sources of ours: one, or one a file where it names a list of files."""
    if isinstance(entry, str):
        entry = {"path": entry, "type": "pretrain"}
    if not isinstance(entry, Mapping) or not entry.get("path"):
        carrier.change(key, "an entry without a path was left out")
        return []
    source: dict[str, Any] = {name: str(entry[name]) for name in _COPIED if entry.get(name)}
    source |= _rows(carrier, key, entry, stage)
    lost = sorted(str(name) for name, value in entry.items() if value and name not in _KNOWN)
    if lost:
        carrier.change(key, f"of {_called(entry)} these are not carried over: {', '.join(lost)}")
    files = entry.get("data_files")
    files = [files] if isinstance(files, str) else [str(file) for file in files or []]
    if source["path"] in _FILE_TYPES and files:
        return [source | {"path": file} for file in files]
    if files and Path(source["path"]).suffix == "":
        source["data_files"] = files
    return [source]


def _called(entry: Mapping[str, Any]) -> str:
    """What a remark calls a dataset: its path, or its first file where the path is only a type of file."""
    files = entry.get("data_files")
    first = files[0] if isinstance(files, list) and files else files
    return str(first if first and entry["path"] in _FILE_TYPES else entry["path"])


def _rows(carrier: Carrier, key: str, entry: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Format and columns of the rows of a dataset."""
    kind = entry.get("type")
    if stage in ("dpo", "orpo", "kto", "reward"):
        fields = {**entry, **kind} if isinstance(kind, Mapping) else entry
        columns = {ours: str(fields[name]) for name, ours in _PREFERENCE_FIELDS.items() if fields.get(name)}
        if isinstance(kind, str):
            carrier.change(key, f"the prompt style {kind!r} of {_called(entry)}: the chat template takes its place")
        return {"format": "kto" if stage == "kto" else "preference"} | ({"columns": columns} if columns else {})
    if isinstance(kind, Mapping):
        return _own_type(carrier, key, entry, kind)
    base, _, style = str(kind or "").partition(":")
    if base == "chat_template":
        return _messages(entry)
    if base == "sharegpt" and entry.get("field_messages"):
        return {"format": "sharegpt", "columns": {"conversations": str(entry["field_messages"])}}
    text = entry.get("field") or entry.get("text_column")
    if base in ("completion", "pretrain") and text:
        return {"format": "text", "columns": {"text": str(text)}}
    if base not in _TYPES:
        carrier.change(
            key, f"the type {kind!r} of {_called(entry)} is not known: see what `tui-trainer preview` makes of it"
        )
        return {}
    if style:
        carrier.change(key, f"the prompt style {style!r} of {_called(entry)}: the chat template takes its place")
    return {name: dict(value) if isinstance(value, dict) else value for name, value in _TYPES[base].items()}


def _own_type(carrier: Carrier, key: str, entry: Mapping[str, Any], kind: Mapping[str, Any]) -> dict[str, Any]:
    columns = {ours: str(kind[name]) for name, ours in _FIELDS.items() if kind.get(name)}
    if kind.get("format") or kind.get("no_input_format"):
        carrier.change(
            key, f"the prompt format of {_called(entry)}: write it as a chat template, data.template = FILE.jinja"
        )
    if kind.get("system_prompt"):
        carrier.change(key, f"the system prompt of {_called(entry)}: set data.system")
    return {"format": "alpaca"} | ({"columns": columns} if columns else {})


def _messages(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Conversations; how a turn names speaker and text is found out from the rows."""
    names = entry.get("message_property_mappings") or {}
    speaker = names.get("role") or entry.get("message_field_role")
    column, is_sharegpt = entry.get("field_messages"), speaker == "from"
    role = "conversations" if is_sharegpt else "messages"
    columns = {role: str(column)} if column and column != role else {}
    if entry.get("field_tools"):
        columns |= {role: str(column or role), "tools": str(entry["field_tools"])}
    return {"format": "sharegpt" if is_sharegpt else "messages"} | ({"columns": columns} if columns else {})


def _template(carrier: Carrier, entries: list[Any]) -> None:
    """The chat template; for rows of the type alpaca alone the prompt that axolotl puts around them."""
    template, jinja = carrier.plain("chat_template"), carrier.take("chat_template_jinja")
    datasets = [entry for entry in entries if isinstance(entry, Mapping)]
    template = template or next((str(entry["chat_template"]) for entry in datasets if entry.get("chat_template")), None)
    if jinja and str(jinja).endswith(".jinja"):
        carrier.put("data.template", jinja, "chat_template_jinja")
    elif jinja:
        carrier.leave("chat_template_jinja", "write the template into a file and set data.template = FILE.jinja")
    elif template in _TEMPLATES:
        carrier.put("data.template", _TEMPLATES[template], "chat_template")
    elif template not in _OWN_TEMPLATES:
        carrier.leave("chat_template", reasons.OWN_TEMPLATE)
    elif datasets and all(entry.get("type") == "alpaca" for entry in datasets):
        carrier.default("data.template", "instruction", "the prompt that the type alpaca is put into")
        carrier.default("data.system", reasons.ALPACA_SYSTEM, "the sentence that the type alpaca begins with")


def _lengths(carrier: Carrier) -> None:
    carrier.put("data.max_length", carrier.take("sequence_len"), "sequence_len")
    carrier.put_called("data.truncation", "excess_length_strategy", _TRUNCATION)
    carrier.put("data.packing", carrier.take("sample_packing"), "sample_packing")
    is_padded = carrier.take("pad_to_sequence_len")
    carrier.put("data.padding", "max_length" if is_padded else None, "pad_to_sequence_len")
    carrier.put("data.pad_to_multiple_of", carrier.take("pad_to_multiple_of"), "pad_to_multiple_of")
    carrier.skip("eval_sequence_len", "min_sample_len")


def _held_out(carrier: Carrier, stage: str) -> None:
    held_out_share(carrier, "val_set_size")
    tests = carrier.take("test_datasets")
    entries = tests if isinstance(tests, list) else []
    files = [source["path"] for entry in entries for source in _sources(carrier, "test_datasets", entry, stage)]
    if len(files) == 1 and Path(files[0]).suffix:
        carrier.put("data.eval_split", files[0], "test_datasets")
    elif entries:
        carrier.leave("test_datasets", reasons.ONE_EVALUATION)
