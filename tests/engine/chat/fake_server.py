"""A server that speaks as an OpenAI-compatible one does, or as badly as a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]

TOP = [{"token": "Hi", "logprob": -0.2}, {"token": "Hel", "logprob": -0.5}]
LOGPROBS = {"content": [{"token": "Hel", "logprob": -0.5, "top_logprobs": TOP}]}


@dataclass
class Fake:
    """What a fake server does and has seen.

    Attributes:
        models: what it lists under /v1/models.
        pages: path to JSON value, for other GETs.
        answer: answers a POST.
        requests: path and body of each POST.
        headers: of all requests.
        url: where it is.
    """

    models: Any = field(default_factory=lambda: {"data": [{"id": "tiny", "owned_by": "vllm", "max_model_len": 512}]})
    pages: dict[str, Any] = field(default_factory=dict)
    answer: Answer | None = None
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    url: str = ""


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/json") -> None:
    """An answer in one piece."""
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def begin_stream(handler: BaseHTTPRequestHandler) -> None:
    """The head of a streamed answer."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
    handler.end_headers()


def send_event(handler: BaseHTTPRequestHandler, value: Any) -> None:
    """One event of it."""
    data = value if isinstance(value, str) else json.dumps(value)
    handler.wfile.write(f"data: {data}\n\n".encode())
    handler.wfile.flush()


def chunk(text: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A piece of a streamed chat."""
    delta = {"content": text} if text is not None else {}
    return {"choices": [{"index": index, "delta": delta, **more}]}


def hello(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """Say hello, streamed or whole, as a chat or as a completion."""
    usage = {"prompt_tokens": 7, "completion_tokens": 2}
    if not body.get("stream"):
        message = {"message": {"role": "assistant", "content": "Hello"}, "text": "Hello"}
        whole = {"choices": [{"index": 0, "finish_reason": "stop", **message}], "usage": usage}
        send(handler, 200, json.dumps(whole).encode())
        return
    begin_stream(handler)
    send_event(handler, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    send_event(handler, chunk("Hel", logprobs=LOGPROBS if body.get("logprobs") else None))
    send_event(handler, chunk("lo", finish_reason="stop", stop_reason=2))
    send_event(handler, {"choices": [], "usage": usage})
    send_event(handler, "[DONE]")


@contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    """Let it run."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.headers.append(self.headers)
            page = fake.models if self.path == "/v1/models" else fake.pages.get(self.path)
            if page is None:
                send(self, 404, b"<html>", "text/html")
            elif isinstance(page, bytes):
                send(self, 200, page, "text/html")
            else:
                send(self, 200, json.dumps(page).encode())

        def do_POST(self) -> None:
            fake.headers.append(self.headers)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.requests.append((self.path, body))
            with suppress(BrokenPipeError, ConnectionResetError):
                (fake.answer or hello)(self, body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
