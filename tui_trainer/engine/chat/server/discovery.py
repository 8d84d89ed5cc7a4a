"""What a server is and which models it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tui_trainer.engine.chat.server.address import Address
from tui_trainer.engine.chat.server.dialect import LLAMA_CPP, OLLAMA, OPENAI, Dialect, dialect_of
from tui_trainer.engine.chat.server.http import Http
from tui_trainer.errors import UsageError

_MOST_SHOWN = 6


@dataclass(frozen=True)
class Found:
    """A server.

    Attributes:
        address: where it is, with the model that is meant.
        dialect: what it understands.
        models: the names of its models.
        context_length: tokens of prompt and answer; None if it does not say.
    """

    address: Address
    dialect: Dialect
    models: tuple[str, ...]
    context_length: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The server as a JSON object."""
        return {
            "url": self.address.url,
            "dialect": self.dialect.name,
            "models": list(self.models),
            "untranslatable": self.dialect.untranslatable,
        }


def look_at(address: Address, is_cancelled: Callable[[], bool] = lambda: False) -> Found:
    """Ask a server what it is.

    Raises:
        MachineError: it does not answer, or wants a key.
        UsageError: it does not list models as OpenAI's interface does.
    """
    http = Http(address, is_cancelled)
    listed = http.get("/models")
    entries = listed.get("data") if isinstance(listed, Mapping) else None
    if not isinstance(entries, list):
        raise UsageError(
            "the server does not speak OpenAI's language: it lists no models",
            where=f"{address.url}/models",
            remedy="The address has to end where its interface begins, as in http://localhost:8000/v1.",
        )
    usable = [entry for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("id"), str)]
    models = tuple(str(entry["id"]) for entry in usable)
    own = next((entry for entry in usable if entry["id"] == address.model), usable[0] if usable else {})
    meta = own.get("meta")
    length = own.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, Mapping) else None)
    dialect = dialect_of(listed) or _by_its_paths(http)
    return Found(address, dialect, models, length if isinstance(length, int) else None)


def chosen_model(found: Found) -> str:
    """The model that is meant: the one named, or the only one.

    Raises:
        UsageError: there is no such model, or several and none is named.
    """
    wanted = found.address.model
    if wanted in found.models or (wanted and not found.models):
        return wanted
    if not wanted and len(found.models) == 1:
        return found.models[0]
    names = ", ".join(found.models[:_MOST_SHOWN]) + (" …" if len(found.models) > _MOST_SHOWN else "")
    what = f"has no model {wanted!r}" if wanted else f"has {len(found.models) or 'no'} models, and none is named"
    raise UsageError(
        f"the server {what}{f'; it has {names}' if wanted and names else f': {names}' if names else ''}",
        where=found.address.url,
        remedy=f"Write it behind the address: {found.address.url}#{found.models[0] if found.models else 'model'}",
    )


def _by_its_paths(http: Http) -> Dialect:
    """Servers that do not say who they are have paths of their own beside the interface."""
    version = http.get("/api/version", from_root=True)
    if isinstance(version, Mapping) and "version" in version:
        return OLLAMA
    properties = http.get("/props", from_root=True)
    return LLAMA_CPP if isinstance(properties, Mapping) and "default_generation_settings" in properties else OPENAI
