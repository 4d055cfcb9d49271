"""A scripted server that speaks chat completions over real sockets, and the entries that ask it."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VERDICT = '{"adherence": 8, "quality": 4, "preservation": 2, "reason": "The  cup is blue."}'
NUMBERS = {"side": 48, "max_new_tokens": 60, "temperature": 0.7, "retries": 2, "dtype": "float32"}


@dataclass(frozen=True)
class Answer:
    """What the server sends: after `wait` seconds, `status` with `body`; a text becomes the reply of a model."""

    body: str | bytes
    status: int = 200
    wait: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def sent(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps({"choices": [{"message": {"role": "assistant", "content": self.body}}]}).encode()


@dataclass(frozen=True)
class Served:
    """The address, the script that it goes on with, and what was asked so far: (path, parsed body)."""

    url: str
    script: list[Answer]
    asked: list[tuple[str, Any]]


@contextmanager
def serving(script: Sequence[Answer]) -> Iterator[Served]:
    """A server on loopback that answers by the script; the last answer again and again."""
    asked: list[tuple[str, Any]] = []
    script = list(script)
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            answer = script[min(len(asked), len(script)) - 1]
            until = time.monotonic() + answer.wait
            while time.monotonic() < until and not done.is_set():
                time.sleep(0.01)
            try:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.sent)))
                self.end_headers()
                self.wfile.write(answer.sent)
            except OSError:  # whoever asked has given up
                pass

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{server.server_port}/v1", script, asked)
    finally:
        done.set()
        server.shutdown()
        server.server_close()


def endpoint_judge(url: str, timeout_s: float = 5.0, **changes: Any) -> dict[str, Any]:
    """The values of an entry that asks a server."""
    return {
        "scorer": "judge",
        "model": "some-judge",
        "endpoint": {"url": url, "timeout_s": timeout_s},
        **NUMBERS,
        **changes,
    }
