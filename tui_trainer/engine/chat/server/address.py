"""Addresses of servers: `http://localhost:8000/v1#model`."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from tui_trainer.errors import UsageError

KEY_VARIABLE = "TUI_TRAINER_API_KEY"
_OPENAI_KEY = "OPENAI_API_KEY"
_OPENAI_HOST = "api.openai.com"


@dataclass(frozen=True)
class Address:
    """Where a server is, and which of its models is meant.

    Attributes:
        scheme: http or https.
        host: name or number.
        port: its port.
        path: before the names of the methods: "/v1".
        model: name of the model; empty for the only one.
    """

    scheme: str
    host: str
    port: int
    path: str
    model: str = ""

    @property
    def url(self) -> str:
        """The address without the model."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return f"{self.scheme}://{host}{'' if self.port == usual else f':{self.port}'}{self.path}"

    @property
    def is_private(self) -> bool:
        """Whether what is sent there can be read by nobody on the way."""
        return self.scheme == "https" or _is_loopback(self.host)

    @property
    def key(self) -> str | None:
        """The key for it, from the environment; None if there is none, or others could read it on the way."""
        name = _OPENAI_KEY if self.host == _OPENAI_HOST and KEY_VARIABLE not in os.environ else KEY_VARIABLE
        return (os.environ.get(name) or None) if self.is_private else None


def is_address(reference: str) -> bool:
    """Whether a reference to a model is the address of a server."""
    return reference.strip().startswith(("http://", "https://"))


def read_address(reference: str) -> Address:
    """The address in what a user typed.

    Raises:
        UsageError: it is none, or holds a password.
    """
    try:
        parts = urlsplit(reference.strip())
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{reference!r} is no address: {error}", remedy=_EXAMPLE) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{reference!r} is no address of a server", remedy=_EXAMPLE)
    if parts.username or parts.password:
        raise UsageError(
            "an address with a password in it would be stored and shown",
            remedy=f"Put the key into the environment variable {KEY_VARIABLE}, and leave it out of the address.",
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return Address(parts.scheme, parts.hostname, port or {"http": 80, "https": 443}[parts.scheme], path, parts.fragment)


_EXAMPLE = "It looks like http://localhost:8000/v1#model; what stands behind # is the model, if there are several."


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
