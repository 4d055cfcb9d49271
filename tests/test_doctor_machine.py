"""`lorweb doctor` on what surrounds a run: ports, Ray, MLflow's address, extras."""

import socket

import pytest

from lorweb.doctor import Finding
from lorweb.doctor_machine import around, kind_of, without_password


def found() -> dict[str, Finding]:
    return {finding.name: finding for finding in around()}


def test_a_port_in_use_is_told_with_the_way_round():
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", 7860))
        except OSError:
            pytest.skip("port 7860 is in use by another program")
        other.listen()
        assert found()["port 7860"].state == "note" and "lorweb demo --port" in found()["port 7860"].text
    assert found()["port 7860"].state == "ok"


def test_a_cluster_that_does_not_answer_keeps_a_run_back(monkeypatch):
    assert found()["ray address"].state == "ok"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert (
            found()["ray address"].state == "missing"
            and "start the cluster, or unset it" in found()["ray address"].text
        )
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        assert found()["ray address"].state == "ok"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert found()["ray address"].state == "ok"


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("sqlite:////x/mlflow.db", "an SQLite database"),
        ("http://h:5000", "a server"),
        ("postgresql+psycopg2://u:p@h/db", "Postgres"),
        ("postgresql://u@h/db", "Postgres"),
        ("what", "an address"),
    ],
)
def test_the_kind_of_a_registry(uri, kind):
    assert kind_of(uri) == kind


def test_a_password_is_never_shown():
    assert without_password("postgresql://me:secret@h:5432/db") == "postgresql://me:***@h:5432/db"
    for user in ("me:secret", "secret", "secret:", "secret:x-oauth-basic", "me:sec@ret"):
        assert (
            without_password(f"no answer of HTTPS://{user}@h:5000/x, ask") == "no answer of HTTPS://***@h:5000/x, ask"
        )
    assert "secret" not in without_password("http://me:secret/secret@h:5000")
    for plain in (
        "https://h?x=a@b",
        "https://h#a@b",
        "sqlite:////x.db",
        "postgresql://me@h:5432/db",
        "https://h/x@y",
        "http://h/a b@c",
    ):
        assert without_password(plain) == plain


def test_a_token_is_seen_and_not_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert found()["hub token"].state == "note"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert found()["hub token"] == Finding("hub token", "ok", "there")
