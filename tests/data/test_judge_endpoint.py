"""A judge behind an address: over real sockets, with every way in which a server can fail."""

import base64
import io
import socket

import pytest
from PIL import Image

from lorweb.config import parse_params
from lorweb.data.rejects import Rejected
from lorweb.data.scorers import judge_asking
from lorweb.data.scorers.build import describe
from tests.data.judging import VERDICT, Answer, endpoint_judge, serving
from tests.data.scoring import entry, scored, some_pairs


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(judge_asking, "PAUSE_S", 0.01)


def ask(script, pairs=1, **changes):
    with serving(script) as server:
        return scored(some_pairs()[:pairs], **endpoint_judge(server.url, **changes)), server.asked


def test_what_is_asked_and_what_comes_back():
    (found,), ((path, asked),) = ask([Answer(VERDICT)])
    assert found.scores["judge_adherence"] == 8 and found.notes == {"judge": "The cup is blue."}
    assert path == "/v1/chat/completions"
    assert (asked["model"], asked["max_tokens"], asked["temperature"]) == ("some-judge", 60, 0.7)
    content = asked["messages"][0]["content"]
    images = [
        Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition("base64,")[2])))
        for part in content
        if part["type"] == "image_url"
    ]
    pair = some_pairs()[0]
    small = [image.resize((48, 48), Image.Resampling.LANCZOS) for image in (pair.before, pair.after)]
    assert [image.tobytes() for image in images] == [image.tobytes() for image in small]
    assert '"invert the colours"' in content[-1]["text"]


def test_an_invalid_reply_is_asked_for_again_with_another_seed():
    (found,), asked = ask([Answer("Sure! 8/10."), Answer('{"adherence": 99}'), Answer(VERDICT)])
    assert found.scores["judge_invalid"] == 0 and found.scores["judge_adherence"] == 8
    assert len({body["seed"] for _, body in asked}) == 3


def test_only_invalid_replies_are_counted_never_guessed():
    (found,), asked = ask([Answer("8/10")])
    assert len(asked) == 3 and found.scores == {"judge_invalid": 1.0} and found.lacks.check == "judge_invalid"


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"null", b"7", b'[{"type": "text", "text": "8"}]'])
def test_a_completion_without_a_text_is_an_invalid_reply_and_no_silence(content):
    """A model that declines to answer has content null."""
    refused = Answer(b'{"choices": [{"message": {"refusal": "I cannot.", "content": ' + content + b"}}]}")
    (found,), asked = ask([refused])
    assert len(asked) == 3 and found.scores == {"judge_invalid": 1.0} and found.lacks.check == "judge_invalid"
    assert f"the reply holds {content.decode()}" in found.lacks.reason
    (found,), asked = ask([refused, Answer(VERDICT)])
    assert len(asked) == 2 and found.scores["judge_adherence"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "words", "times"),
    [
        (Answer(b"oops", 500), r"answered with HTTP 500: oops", 3),
        (Answer(b"slow down", 429), "HTTP 429", 3),
        (Answer(b'{"error": "no such model"}', 404), "HTTP 404: .*no such model", 1),
        (Answer(b"", 302, headers={"Location": "http://127.0.0.1:9/"}), "HTTP 302", 1),
        (Answer(b"<html>hello</html>"), r"did not answer as chat completions do .*<html>", 3),
        (Answer(b"[]"), "did not answer as chat completions do", 3),
        (Answer(b'{"choices": []}'), r"did not answer as chat completions do \(IndexError\)", 3),
        (Answer(b"x" * (2 << 20)), "an answer of more than 1048576 bytes", 3),
        (Answer(VERDICT, wait=30), r"gave no answer within 0\.2 s", 3),
    ],
)
def test_a_server_that_gives_no_reply_is_an_error_to_be_tried_again(answer, words, times):
    (found,), asked = ask([answer], timeout_s=0.2 if answer.wait else 5.0)
    assert isinstance(found, Rejected) and found.check == "error"  # the check that the next run tries again
    with pytest.raises(Rejected, match=words):
        raise found
    assert len(asked) == times


def test_a_server_that_recovers_is_no_fault():
    (found,), asked = ask([Answer(b"", 503), Answer(VERDICT)])
    assert found.scores["judge_adherence"] == 8 and len(asked) == 2


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (found,) = scored(some_pairs()[:1], **endpoint_judge(f"http://127.0.0.1:{port}/v1"))
    assert found.check == "error" and "cannot be asked (ConnectionRefusedError" in found.reason


def test_the_environment_sends_nothing_elsewhere(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    (found,), _ = ask([Answer(VERDICT)])
    assert found.scores["judge_adherence"] == 8


def test_addresses_are_checked_with_the_parameters():
    import yaml

    from tests.pipelines.projects import ROOT

    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for url, words in (
        ("127.0.0.1:8000", r"write it as http://HOST:PORT/v1"),
        ("file:///etc/passwd", r"write it as http://HOST:PORT/v1"),
        ("http://me:secret@host/v1", "holds a user or a password"),
    ):
        judge_entry = {**endpoint_judge(url), "pool": raw["filter"]["scorers"][0]["pool"]}
        raw["filter"]["scorers"] = [raw["filter"]["scorers"][0], judge_entry]
        with pytest.raises(ValueError, match=words) as caught:
            parse_params(raw, "params.yaml")
        assert "secret" not in str(caught.value)


def test_the_revision_holds_address_and_name():
    facts = [
        describe(entry(**endpoint_judge(url, model=model)))
        for url, model in (("http://a/v1", "x"), ("http://b/v1", "x"), ("http://a/v1", "y"))
    ]
    assert len({own.revision for own in facts}) == 3
