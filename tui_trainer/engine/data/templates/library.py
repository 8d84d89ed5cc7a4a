"""Where chat templates come from: the model, a file, the ones written for this project, an installed `trl`."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from tui_trainer.engine.data.templates.chat_template import ChatTemplate
from tui_trainer.errors import ConfigurationError, DataError, Problem

NO_TEMPLATE = "none"
_KEY = "data.template"
_SUFFIX = ".jinja"
_MAX_FILES = 200


def builtin_names() -> list[str]:
    """The templates written for this project."""
    folder = resources.files(__package__) / "builtin"
    return sorted(entry.name.removesuffix(_SUFFIX) for entry in folder.iterdir() if entry.name.endswith(_SUFFIX))


def package_names() -> list[str]:
    """The templates of the package `trl`, if it is installed; nothing of it is run."""
    folder = _package_folder()
    return sorted(path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}")) if folder else []


def known_templates(model_template: str | Mapping[str, str] | None) -> list[dict[str, str]]:
    """All that `data.template` may name, for a list to choose from.

    Args:
        model_template: the template the tokenizer carries; several by name in some tokenizers.

    Returns:
        For each its `name`, empty for the model's own, and its `source`: model, builtin, package, file (those in the
        working folder) or none.
    """
    of_model = [name for name in model_template if name != "default"] if isinstance(model_template, Mapping) else []
    files = sorted(path.name for path in Path().glob(f"*{_SUFFIX}") if path.is_file())
    found = [
        *([("", "model")] if model_template else []),
        *((name, "model") for name in of_model),
        *((name, "builtin") for name in builtin_names()),
        *((name, "package") for name in package_names() if name not in builtin_names()),
        *((name, "file") for name in files[:_MAX_FILES]),
        (NO_TEMPLATE, "none"),
    ]
    return [{"name": name, "source": source} for name, source in found]


def find_template(
    wanted: str | None,
    model_template: str | Mapping[str, str] | None,
    variables: Mapping[str, Any],
    model_name: str = "model",
) -> ChatTemplate | None:
    """The chat template a configuration asks for.

    Args:
        wanted: `data.template`: None for the model's own, "none" for none, a name, or a file.
        model_template: the template the tokenizer carries; several by name in some tokenizers.
        variables: what the template is always given.
        model_name: what the model's own template is called.

    Returns:
        The template, None if there is none to use.

    Raises:
        ConfigurationError: there is no template of that name.
        DataError: the file cannot be read, or is no valid template.
    """
    if wanted == NO_TEMPLATE or (wanted is None and not model_template):
        return None
    if wanted is None:
        template = _of_model(model_template, variables, model_name)
    elif wanted.endswith(_SUFFIX) or "/" in wanted or "\\" in wanted:
        template = ChatTemplate(Path(wanted).stem, "file", _read(Path(wanted).expanduser()), variables, where=wanted)
    else:
        template = _by_name(wanted, model_template, variables)
    template.check()
    return template


def _of_model(
    model_template: str | Mapping[str, str] | None, variables: Mapping[str, Any], model_name: str
) -> ChatTemplate:
    if isinstance(model_template, Mapping):
        text = model_template.get("default") or next(iter(model_template.values()))
        return ChatTemplate(model_name, "model", text, variables, model_template.get("tool_use"))
    return ChatTemplate(model_name, "model", model_template or "", variables)


def _by_name(name: str, model_template: str | Mapping[str, str] | None, variables: Mapping[str, Any]) -> ChatTemplate:
    if isinstance(model_template, Mapping) and name in model_template:
        return ChatTemplate(name, "model", model_template[name], variables)
    if name in builtin_names():
        text = (resources.files(__package__) / "builtin" / f"{name}{_SUFFIX}").read_text("utf-8")
        return ChatTemplate(name, "builtin", text, variables)
    folder = _package_folder()
    if folder and name in package_names():
        return ChatTemplate(name, "package", _read(folder / f"{name}{_SUFFIX}"), variables)
    near = difflib.get_close_matches(name, [*builtin_names(), *package_names()], n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(builtin_names())}, none, or a {_SUFFIX} file"
    raise ConfigurationError.of([Problem(_KEY, f"there is no chat template {name!r}", hint)])


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec("trl")
    folders = (
        [Path(location) / "chat_templates" for location in (spec.submodule_search_locations or ())] if spec else []
    )
    return next((folder for folder in folders if folder.is_dir()), None)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (byte {error.start})", where=str(path)) from None
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}",
            where=str(path),
            remedy="Give a name or the path of a file.",
        ) from None
