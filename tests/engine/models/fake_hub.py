"""A hub on localhost that speaks as much of the real one's language as fetching a model needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """What the hub holds and what it was asked.

    Attributes:
        files: repository to file name to content.
        gated: repositories that want a permission.
        failing: path part for which it answers 503.
        requests: method and path of every request.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    failing: str = ""
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        parts = [part for part in path.split("/") if part]
        if self.failing and self.failing in path:
            return 503, {}, b"{}"
        if parts[:2] == ["api", "models"]:
            return self._api("/".join(parts[2:4]), parts[4:])
        if len(parts) > 4 and parts[2] == "resolve":
            return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return 200, {}, b"hub"

    def _api(self, repo: str, rest: list[str]) -> tuple[int, Mapping[str, str], bytes]:
        if repo not in self.files:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if repo in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        if rest[:1] == ["revision"] and rest[1] not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        if rest[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
                for name, content in self.files[repo].items()
            ]
            return 200, {}, json.dumps(tree).encode()
        info: dict[str, Any] = {"id": repo, "modelId": repo, "sha": COMMIT, "private": False, "tags": []}
        info["siblings"] = [{"rfilename": name} for name in self.files[repo]]
        return 200, {}, json.dumps(info).encode()

    def _file(self, repo: str, revision: str, name: str) -> tuple[int, Mapping[str, str], bytes]:
        if repo in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        content = self.files.get(repo, {}).get(name)
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return 200, {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": COMMIT}, content


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A running hub; its address is `url`."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self, *, with_body: bool) -> None:
            path = urlsplit(self.path).path
            hub.requests.append(f"{self.command} {path}")
            status, headers, body = hub.answer(path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def do_GET(self) -> None:
            self._respond(with_body=True)

        def do_HEAD(self) -> None:
            self._respond(with_body=False)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
