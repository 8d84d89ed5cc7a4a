"""Loading a tokenizer: the model's own, another one by name, or the built-in one of bytes.

Used by the data path, the trainer and the chat, so that all three see the same ids.
"""

from __future__ import annotations

from pathlib import Path

from transformers import CONFIG_MAPPING, AutoTokenizer, PreTrainedTokenizerBase

from tui_trainer import consent
from tui_trainer.config.model import ModelConfig
from tui_trainer.engine.models.bytes_tokenizer import BYTES_REFERENCE, bytes_tokenizer
from tui_trainer.engine.models.folder import TOKENIZER_FILES, foreign_code, has_tokenizer, read_object
from tui_trainer.engine.models.locate import locate_tokenizer
from tui_trainer.engine.models.messages import first_line
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import ConfigurationError, DataError, Problem, RefusedError, UsageError

PAD_TOKENS = ("<|endoftext|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|PAD_TOKEN|>", "<unk>")
"""Tokens that may serve as padding where a tokenizer names none: they are in the vocabulary and end no turn."""


def load_tokenizer(config: ModelConfig, report: Report = ignore_report) -> PreTrainedTokenizerBase:
    """The tokenizer that a configuration asks for.

    Raises:
        ConfigurationError: the configuration names neither a tokenizer nor a model.
        WorkbenchError: as `locate_tokenizer` and `tokenizer_from`.
    """
    reference = config.tokenizer_name_or_path or config.name_or_path
    if not reference:
        problem = Problem(
            "model.tokenizer_name_or_path",
            "is needed, because no model is named whose tokenizer could be used",
            f'set it to a hub id, a folder or "{BYTES_REFERENCE}"',
        )
        raise ConfigurationError.of([problem])
    if reference.startswith("builtin:"):
        return _builtin(reference)
    return tokenizer_from(locate_tokenizer(config, reference, report), trust_remote_code=config.trust_remote_code)


def _builtin(reference: str) -> PreTrainedTokenizerBase:
    if reference != BYTES_REFERENCE:
        raise UsageError(
            f"there is no built-in tokenizer {reference!r}", remedy=f"The built-in tokenizer is {BYTES_REFERENCE}."
        )
    return bytes_tokenizer()


def tokenizer_from(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, with a padding token.

    Raises:
        DataError: the folder holds none, or a broken one.
        RefusedError: it needs code of its repository and nobody consented to that.
    """
    if not has_tokenizer(folder):
        raise DataError(
            f"the folder holds no tokenizer: none of {', '.join(TOKENIZER_FILES)}",
            where=str(folder),
            remedy="Copy the tokenizer's files there, or set model.tokenizer_name_or_path.",
        )
    check_consent(folder, "AutoTokenizer", trust_remote_code)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:  # tokenizers raises bare Exception for a broken file, the converters what they like
        raise DataError(
            f"the tokenizer cannot be loaded: {first_line(error)}",
            where=str(folder),
            remedy="Fetch or save the tokenizer again.",
        ) from None
    give_pad_token(tokenizer)
    return tokenizer


def check_consent(folder: Path, auto_class: str, trust_remote_code: bool) -> None:
    """See that a model that needs code of its repository has the user's consent, for this revision of it.

    A model that transformers knows is loaded by transformers' own code, whatever its repository holds; with
    `trust_remote_code` it would prefer the repository's, so that this needs consent too.

    Raises:
        RefusedError: the code would run and consent is not given; the message names files and folder.
    """
    code = foreign_code(folder)
    if auto_class not in code.classes or (_is_native(folder, auto_class) and not trust_remote_code):
        return
    if trust_remote_code and consent.check(folder):
        return
    files = ", ".join(code.files) or "not fetched yet"
    repository, revision = consent.identity_of(folder)
    wanted = "" if trust_remote_code else " and set model.trust_remote_code = true"
    raise RefusedError(
        f"this model runs Python code of its repository: {code.classes[auto_class]} (files: {files}), and nobody "
        f"agreed to its revision {revision}",
        where=str(folder),
        remedy=f"Read that code first. If you trust it, run `tui-trainer trust {repository}`{wanted}.",
    )


def _is_native(folder: Path, auto_class: str) -> bool:
    """Whether transformers has a class of its own for what is in the folder."""
    if auto_class == "AutoTokenizer" and (folder / "tokenizer.json").is_file():
        return True
    config = folder / "config.json"
    return config.is_file() and read_object(config).get("model_type") in CONFIG_MAPPING


def give_pad_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a padding token one of its own tokens, if it can be none that ends a turn.

    Padding is masked by length everywhere, never by id, so that the end token as a last resort costs nothing.
    """
    if tokenizer.pad_token is not None:
        return
    vocabulary = tokenizer.get_vocab()
    spare = [token for token in PAD_TOKENS if token in vocabulary and token != tokenizer.eos_token]
    tokenizer.pad_token = spare[0] if spare else tokenizer.eos_token
