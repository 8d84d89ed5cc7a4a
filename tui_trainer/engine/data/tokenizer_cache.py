"""Tokenizers without `transformers`: its work is kept, so that only the first use of a tokenizer has to load it.

What is kept is the whole state of the tokenizer as `transformers` made it, named by a hash over the files it was made
from and the version that made it; a test holds the two equal.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import xxhash

from tui_trainer import __version__
from tui_trainer.config.model import ModelConfig
from tui_trainer.engine.data.tokenizer import TextTokenizer, TokenizerState, state_of
from tui_trainer.engine.models.bytes_tokenizer import (
    BYTES_REFERENCE,
    CHAT_TEMPLATE,
    END_OF_TEXT,
    TURN_END,
    bytes_backend,
)
from tui_trainer.engine.models.locate import locate_tokenizer
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import MachineError, UsageError, WorkbenchError, error_from_dict
from tui_trainer.paths import cache_dir, make_private
from tui_trainer.runs.files import read_json, write_json

STAND_IN = BYTES_REFERENCE
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
    if reference == BYTES_REFERENCE:
        return TextTokenizer(bytes_state())
    if reference.startswith("builtin:"):
        raise UsageError(f"there is no built-in tokenizer {reference!r}", remedy=f"There is {BYTES_REFERENCE}.")
    key = _key(config, reference, report)
    path = cache_dir() / "tokenizers" / f"{key}.json"
    kept = read_json(path)
    if kept is not None:
        try:
            return TextTokenizer(TokenizerState(**{**kept, "name": reference}))
        except Exception:  # tokenizers raises bare Exception for a broken document
            path.unlink(missing_ok=True)
    report("loading the tokenizer", None, None)
    state = _loaded(config, reference)
    _keep(path, state)
    return TextTokenizer(state)


def bytes_state() -> TokenizerState:
    """The state of the built-in tokenizer of bytes, which needs no loading."""
    return TokenizerState(
        backend=bytes_backend().to_str(),
        special_tokens={"eos_token": TURN_END, "pad_token": END_OF_TEXT},
        chat_template=CHAT_TEMPLATE,
        pad_token_id=bytes_backend().token_to_id(END_OF_TEXT),
        name=BYTES_REFERENCE,
    )


def _loaded(config: ModelConfig, reference: str) -> TokenizerState:
    """Load a tokenizer with `transformers`, in a process of its own: its memory is given back when that ends.

    Raises:
        WorkbenchError: what `load_tokenizer` raised there.
        MachineError: the process died.
    """
    command = [sys.executable, "-m", "tui_trainer.engine.data.tokenizer_cache"]
    request = json.dumps({"config": config.model_dump(mode="json"), "name": reference}).encode()
    ended = subprocess.run(command, input=request, capture_output=True, check=False)
    answer = _read_answer(ended.stdout)
    if answer is None:
        last = ended.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
        raise MachineError(f"the tokenizer {reference} cannot be loaded: {last or 'its process died'}")
    if "error" in answer:
        raise error_from_dict(answer["error"])
    return TokenizerState(**answer["state"])


def _read_answer(output: bytes) -> dict[str, Any] | None:
    """The JSON object on the last line of a process's output; None if there is none."""
    try:
        answer = json.loads(output.strip().rpartition(b"\n")[2])
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _key(config: ModelConfig, reference: str, report: Report) -> str:
    makers = f"{__version__} {importlib.metadata.version('transformers')} {config.trust_remote_code}"
    digest = xxhash.xxh3_128(makers.encode())
    folder = locate_tokenizer(config, reference, report)
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


def main() -> None:
    """Load the tokenizer that standard input asks for and print its state."""
    from tui_trainer.engine.models.tokenizer import load_tokenizer

    sink = sys.stdout
    sys.stdout = sys.stderr
    request = json.load(sys.stdin)
    try:
        state = state_of(load_tokenizer(ModelConfig.model_validate(request["config"])), request["name"])
    except WorkbenchError as error:
        answer: dict[str, Any] = {"error": error.to_dict()}
    else:
        answer = {"state": state.to_dict()}
    sink.write("\n" + json.dumps(answer))


if __name__ == "__main__":
    main()
