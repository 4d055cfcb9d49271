"""The demo asked over bare HTTP: what a program can send that no page and no client of Gradio would."""

import json
from itertools import count
from typing import Any

import httpx

NUMBERS = count()
ENDS = ("process_completed", "close_stream", "unexpected_error")


def uploaded(address: str, data: bytes, name: str = "b.png") -> str:
    """Upload a file; its path on the server."""
    answer = httpx.post(f"{address}gradio_api/upload", files={"files": (name, data)}, timeout=60)
    (path,) = answer.raise_for_status().json()
    return str(path)


def functions(address: str, event: str) -> list[int]:
    """The numbers of the page's functions that an event starts."""
    config = httpx.get(f"{address}config", timeout=60).json()
    return [one["id"] for one in config["dependencies"] if any(target[1] == event for target in one["targets"])]


def queued(address: str, function: int, data: list[Any]) -> list[dict[str, Any]]:
    """Everything that the server says to one call."""
    call = {"data": data, "fn_index": function, "session_hash": f"bare{next(NUMBERS)}"}
    httpx.post(f"{address}gradio_api/queue/join", json=call, timeout=60).raise_for_status()
    said = []
    where = f"{address}gradio_api/queue/data"
    with httpx.stream("GET", where, params={"session_hash": call["session_hash"]}, timeout=60) as lines:
        for line in lines.iter_lines():
            if line.startswith("data:"):
                said.append(json.loads(line.removeprefix("data:")))
                if said[-1]["msg"] in ENDS:
                    break
    return said
