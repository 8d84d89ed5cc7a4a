"""The name of a tokenised dataset: equal names, equal tokens. Shown by the preview, recorded by the run."""

from __future__ import annotations

import json

import xxhash

from tui_trainer.config.data import DataConfig
from tui_trainer.engine.data.rowset import RowSet
from tui_trainer.engine.data.templates.chat_template import ChatTemplate
from tui_trainer.engine.data.tokenizer import TextTokenizer

_VERSION = 4
"""Raised whenever the same rows and settings would give other tokens or another verdict."""

_SETTINGS = (
    "train_on",
    "keep_reasoning",
    "system",
    "max_length",
    "truncation",
    "add_special_tokens",
    "allow_preference_as_sft",
)
"""The fields of `[data]` that decide about tokens, besides rows, format and template."""


def fingerprint_of(
    rows: RowSet, data: DataConfig, stage: str, tokenizer: TextTokenizer, template: ChatTemplate | None
) -> str:
    """A hash over all that decides about the examples of some rows."""
    content = {
        "version": _VERSION,
        "stage": stage,
        "parts": [
            [
                part.source.fingerprint,
                part.spec.format,
                sorted(part.spec.columns.items()),
                sorted(part.spec.number_columns),
            ]
            for part in rows.parts
        ],
        "settings": {name: getattr(data, name) for name in _SETTINGS},
        "tokenizer": tokenizer.fingerprint,
        "template": template.hash if template else None,
    }
    return xxhash.xxh3_128(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
