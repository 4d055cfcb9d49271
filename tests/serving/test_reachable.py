"""An MLflow that is not there, or none at all, is a sentence, soon, and without passwords."""

import contextlib
import http.server
import socket
import sqlite3
import threading
import time

import pytest

from lorweb.serving import reachable, tracking
from lorweb.serving.registry import Registry


class Alive(http.server.BaseHTTPRequestHandler):
    """Answers the look for a sign of life, as a server does before it dies."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def test_a_server_that_dies_later_is_a_sentence(tmp_path, monkeypatch):
    server = http.server.HTTPServer(("127.0.0.1", 0), Alive)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    registry = Registry("lorweb", tmp_path)
    server.shutdown()
    server.server_close()
    thread.join()
    with pytest.raises(
        ValueError, match=r"http://127.0.0.1:\d+ no longer answers; start it, then run the same command"
    ):
        registry.versions()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://me:secret@127.0.0.1:9", r"server at http://\*\*\*@127.0.0.1:9 does not answer .*start it"),
        ("http://me:secret@nowhere.invalid", r"server at http://\*\*\*@nowhere.invalid does not answer"),
        ("http://127.0.0.1:port", r"does not answer \(nonnumeric port: 'port'\)"),
        ("http://[::1", "does not answer"),
        ("postgresql+psycopg2://me:secret@127.0.0.1:9/db", r"database at \S*me:\*\*\*@127.0.0.1:9/db does not answer"),
        (
            "postgresql+psycopg2://me:se/c@ret@127.0.0.1:9/db",
            r"me:\*\*\*@127.0.0.1:9/db has an @ in its password; write",
        ),
        ("postgresql+nothing://me:secret@127.0.0.1:9/db", r"me:\*\*\*@127.0.0.1:9/db .*; "),
        ("nothing://me:secret@127.0.0.1:9/db", r"MLflow cannot use nothing://me:\*\*\*@127.0.0.1:9/db"),
    ],
)
def test_an_address_that_cannot_be_used_is_a_sentence_soon_and_without_its_password(tmp_path, monkeypatch, uri, said):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    begun = time.monotonic()
    with pytest.raises(ValueError, match=said) as raised:
        Registry("lorweb", tmp_path)
    assert time.monotonic() - begun < 20 and "secret" not in str(raised.value) and "ret@" not in str(raised.value)
    for text in ("database is locked", "readonly database", "out-of-date database schema"):
        assert "secret" not in (tracking.fault_of(text, uri) or "")
    assert "secret" not in (tracking.fault_of("API request to x failed with exception", uri) or "")


def test_a_server_that_speaks_no_http_is_a_sentence(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].sendall(b"220 mail\r\n"))
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ValueError, match=r"does not answer \(220 mail"):
            Registry("lorweb", tmp_path)
        thread.join()


@pytest.mark.slow
def test_a_busy_server_is_asked_again_and_a_silent_one_not_for_ever(monkeypatch):
    monkeypatch.setattr(reachable, "TIMEOUT", 0.2)
    asked = []

    class Busy(Alive):
        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) != 3:
                time.sleep(0.5)
            with contextlib.suppress(OSError):
                super().do_GET()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    reachable.check_reachable(address, create=False)
    assert asked == ["/health"] * 3
    for patience, least in ((0.0, 4), (1.0, 6)):
        with pytest.raises(ValueError, match=r"does not answer \(timed out\); start it"):
            reachable.check_reachable(address, create=False, patience=patience)
        assert len(asked) >= least
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_behind_a_password_is_asked_with_it(tmp_path, monkeypatch):
    class Guarded(Alive):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Authorization"] == "Basic bWU6cEBzcw==" else 401)
            self.end_headers()

    server = http.server.HTTPServer(("127.0.0.1", 0), Guarded)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    tracking.check_reachable(f"http://me:p%40ss@127.0.0.1:{server.server_port}", create=False)
    with pytest.raises(ValueError, match=r"does not answer \(Unauthorized\)"):
        tracking.check_reachable(f"http://me:other@127.0.0.1:{server.server_port}", create=False)
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_that_is_no_database_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_text("a letter to the editor")
    with pytest.raises(ValueError, match=r"mlflow.db is no SQLite database; restore it from a copy"):
        Registry("lorweb", tmp_path)


def test_the_database_of_another_program_is_left_as_it_is(tmp_path, monkeypatch):
    file = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE letters (text)")
    before = file.read_bytes()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match=r"is the database of another program \(its tables: letters\); set MLF"):
        Registry("lorweb", tmp_path, create=True)
    assert file.read_bytes() == before
