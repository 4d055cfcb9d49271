"""Servers that judge by rules, over real sockets, and rows of verdicts."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

POOL = {"actors": 1, "cpus": 0.25, "gpus": 0, "batch_size": 4}
NUMBERS = {"side": 512, "max_new_tokens": 200, "temperature": 0.7, "retries": 1, "dtype": "float32"}
Rule = Callable[[list[Image.Image], dict[str, Any]], tuple[int, str]]  # images, request -> status, reply


def judge_params(url: str, **changes: Any) -> dict[str, Any]:
    """`evaluate.judge` that asks a server."""
    asked = {"model": "some-judge", "endpoint": {"url": url, "timeout_s": 5.0}, **NUMBERS}
    return {**asked, "graded": ["lorweb"], "rivals": ["copy"], "max_unanswered": 0.0, "pool": POOL, **changes}


def grade(accuracy: int, preservation: int) -> str:
    return json.dumps({"explanation": "As seen.", "accuracy": accuracy, "preservation": preservation})


def prefer(better: int) -> str:
    return json.dumps({"explanation": "It is better.", "better": better})


def always_first(images: list[Image.Image], request: dict[str, Any]) -> tuple[int, str]:
    """A judge with nothing but a preference for the first place."""
    return 200, prefer(1) if len(images) == 5 else grade(5, 5)


def likes_change(images: list[Image.Image], request: dict[str, Any]) -> tuple[int, str]:
    """A judge that prefers what is further from b, wherever it is shown."""
    b, *answers = (np.asarray(image, float) for image in images[2:])
    changed = [np.abs(answer - b).mean() for answer in answers]
    if len(answers) == 1:
        return 200, grade(9 if changed[0] > 1 else 1, 4)
    return 200, prefer(1 if changed[0] > changed[1] else 2)


@contextmanager
def judging(rule: Rule) -> Iterator[tuple[str, list[int]]]:
    """A server on loopback that answers chat completions by a rule: its address, and how many images it was shown."""
    shown: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            parts = request["messages"][0]["content"]
            urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
            images = [Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))) for url in urls]
            shown.append(len(images))
            status, reply = rule(images, request)
            body = json.dumps({"choices": [{"message": {"content": reply}}]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", shown
    finally:
        server.shutdown()
        server.server_close()
