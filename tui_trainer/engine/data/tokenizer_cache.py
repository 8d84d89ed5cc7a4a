"""Tokenizers without `transformers`: its work is kept, so that only the first use of a tokenizer has to load it.

What is kept is the whole state of the tokenizer as `transformers` made it, named by a hash over the files it was made
from and the version that made it; a test holds the two equal.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import xxhash

from tui_trainer import __version__
from tui_trainer.config.model import ModelConfig
from tui_trainer.engine.data.tokenizer import TextTokenizer, TokenizerState, state_of
from tui_trainer.engine.models.locate import locate_model
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.paths import cache_dir, make_private
from tui_trainer.runs.files import read_json, write_json

STAND_IN = "builtin:bytes"
"""The tokenizer that shows data as long as no model is chosen: one token a byte."""

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "config.json",
)


def text_tokenizer(config: ModelConfig, report: Report = ignore_report) -> TextTokenizer:
    """The tokenizer of a model, from what is kept of it or by loading it once.

    Args:
        config: names the tokenizer or the model; neither: the stand-in.
        report: told what is going on.

    Raises:
        WorkbenchError: as `load_tokenizer`.
    """
    reference = config.tokenizer_name_or_path or config.name_or_path
    if reference is None:
        config = config.model_copy(update={"tokenizer_name_or_path": STAND_IN})
        reference = STAND_IN
    key = _key(config, reference, report)
    path = cache_dir() / "tokenizers" / f"{key}.json"
    kept = read_json(path)
    if kept is not None:
        try:
            return TextTokenizer(TokenizerState(**{**kept, "name": reference}))
        except Exception:  # tokenizers raises bare Exception for a broken document
            path.unlink(missing_ok=True)
    report("loading the tokenizer", None, None)
    from tui_trainer.engine.models.tokenizer import load_tokenizer

    state = state_of(load_tokenizer(config, report), reference)
    _keep(path, state)
    return TextTokenizer(state)


def _key(config: ModelConfig, reference: str, report: Report) -> str:
    makers = f"{__version__} {importlib.metadata.version('transformers')} {config.trust_remote_code}"
    digest = xxhash.xxh3_128(makers.encode())
    if reference.startswith("builtin:"):
        digest.update(reference.encode())
        return digest.hexdigest()
    is_own = not config.tokenizer_name_or_path
    source = locate_model(
        reference,
        revision=config.revision if is_own else None,
        cache_dir=config.cache_dir,
        needs="tokenizer",
        with_code=config.trust_remote_code,
        report=report,
    )
    folder = source.tokenizer_path
    for path in [folder / name for name in _FILES] + sorted(folder.glob("additional_chat_templates/*.jinja")):
        if path.is_file():
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _keep(path: Path, state: TokenizerState) -> None:
    try:
        make_private(path.parent)
        write_json(path, state.to_dict())
    except OSError:
        # nothing but time is lost: the next use loads it again
        return
