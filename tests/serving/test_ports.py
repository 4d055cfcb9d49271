"""A port that cannot be had is said before the model is loaded, with one that can."""

import socket

import pytest

from lorweb.serving.ports import check_address
from tests.cli_cases import run


@pytest.fixture
def taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_taken_port_is_named_with_one_that_is_free(taken, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "demo", "--port", str(taken), "--model", "no-such-model")
    assert (code, out) == (1, "") and f"lorweb: port {taken} of 127.0.0.1 is taken by another program; " in err
    free = int(err.split("--port ")[1])
    check_address("127.0.0.1", free)
    assert free > taken


def test_a_port_that_was_just_closed_is_free():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # the server's end lingers
    check_address("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("no.such.host.invalid", r"there is no address 'no.such.host.invalid' \(.*\); give --host 127.0.0.1"),
        ("192.0.2.1", r"this machine has no address 192.0.2.1; give --host 127.0.0.1"),
    ],
)
def test_an_address_that_is_not_here_is_named(host, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_address(host, 7860)
