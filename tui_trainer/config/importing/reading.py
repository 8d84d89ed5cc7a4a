"""YAML and JSON of other tools as a tree with the line of each key; nothing in a file can run or grow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from tui_trainer.config.toml import Document, KeyPath
from tui_trainer.errors import ConfigurationError, Problem, UsageError

_MAX_BYTES = 1 << 20
_MAX_ALIASES = 20
"""An alias repeats a part of the file; a few nested ones already make a small file a huge tree."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """The safe loader, without aliases that make a file endless; a date stays a text, as no setting is one."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    num_aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.num_aliases += 1
            event = self.peek_event()
            target = self.anchors.get(event.anchor)
            # a node gets its end when it is whole: an alias inside it would hold itself
            if self.num_aliases > _MAX_ALIASES or (target is not None and target.end_mark is None):
                raise yaml.constructor.ConstructorError(
                    None, None, "has too many aliases (*name), or one inside itself", event.start_mark
                )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


def read_foreign(path: Path) -> Document:
    """The mapping in a YAML or JSON file; keys that stand twice are refused.

    Raises:
        UsageError: there is no such file, it cannot be read, or it is a configuration of ours.
        ConfigurationError: it is not valid, or holds no mapping.
    """
    if path.suffix.lower() == ".toml":
        raise UsageError(
            "is TOML, the form of our own configurations", where=str(path), remedy=f"Try `tui-trainer check {path}`."
        )
    text = _read(path)
    tree, lines = _json(text, path) if path.suffix.lower() == ".json" else _yaml(text, path)
    if not isinstance(tree, dict) or not tree:
        raise ConfigurationError(
            "holds no settings: a mapping of names to values is expected",
            where=str(path),
            remedy="Give the YAML or JSON configuration of a training run.",
        )
    return Document(str(path), {str(key): value for key, value in tree.items()}, lines)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError("is too large for a configuration", where=str(path), remedy="Is it the dataset?")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"is not UTF-8 text (byte {error.start})", where=str(path), remedy="Save it as UTF-8."
        ) from None
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from None


def _json(text: str, path: Path) -> tuple[Any, dict[KeyPath, int]]:
    try:
        return json.loads(text), {}
    except ValueError as error:
        raise ConfigurationError(f"is not valid JSON: {error}", where=str(path), remedy="Mend it.") from None
    except RecursionError:
        raise ConfigurationError("is nested too deeply", where=str(path)) from None


def _yaml(text: str, path: Path) -> tuple[Any, dict[KeyPath, int]]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_lines(node, (), str(path)))
        return loader.construct_document(node), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigurationError(f"is not valid YAML: {what}", where=where, remedy="Mend this line.") from None
    except (ValueError, TypeError) as error:  # a number that does not exist, a list as a key
        raise ConfigurationError(f"is not valid YAML: {error}", where=str(path), remedy="Mend it.") from None
    except RecursionError:
        raise ConfigurationError("is nested too deeply", where=str(path)) from None
    finally:
        loader.dispose()


def _lines(node: yaml.Node, path: KeyPath, file: str) -> Iterator[tuple[KeyPath, int]]:
    """The line of every key and list entry.

    Raises:
        ConfigurationError: a key stands twice, of which only one can count.
    """
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen and name != "<<":
                problem = Problem(name, f"stands twice, in line {seen[name]} too", "keep one", f"{file}:{line}")
                raise ConfigurationError.of([problem])
            seen[name] = line
            yield (*path, name), line
            yield from _lines(value, (*path, name), file)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield (*path, number), item.start_mark.line + 1
            yield from _lines(item, (*path, number), file)
