"""Which head a submission reaches: the one that it was told, whatever Ray reads in the environment."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cluster.client import ELSEWHERE, connect, stop_command
from cluster.faults import HeadError, is_away, is_taken


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """(address, paths that were asked for) of a server that knows nothing."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_address_that_was_given_is_asked_and_no_other(monkeypatch, name):
    with listening() as (given, asked), listening() as (other, asked_elsewhere):
        monkeypatch.setenv(name, other)
        with pytest.raises(RuntimeError, match="Version check returned 404"):
            connect(given)
        assert os.environ[name] == other
    assert asked == ["/api/version"] and asked_elsewhere == []


def test_a_password_in_an_address_is_refused_and_not_shown():
    for before in ("http://ada:no-one-may-see-this", "http://no-one-may-see-this", "ada:no-one-may-see-this"):
        with pytest.raises(HeadError, match="names a user or a password") as refused:
            connect(f"{before}@127.0.0.1:1")
        assert "no-one" not in str(refused.value)


def test_the_command_that_ends_a_job_asks_the_same_head(monkeypatch):
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    assert stop_command("job", "http://h:8265") == "ray job stop job --address http://h:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://other:8265")
    assert stop_command("job", "http://h:8265").startswith("env -u RAY_ADDRESS ray job stop job --address")


def test_a_name_that_is_taken_is_no_head_that_is_away():
    """The head's own job agent refuses it with 400, which the head wraps into 500."""
    said = "Request failed with status code 500: ... Request failed with status code {}: ..."
    assert is_away(RuntimeError(said.format(500))) and not is_taken(RuntimeError(said.format(500)))
    taken = RuntimeError(said.format(400) + " Job with submission_id lorweb-x already exists.")
    assert is_taken(taken) and not is_away(taken)
