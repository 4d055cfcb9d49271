"""The load test of a served model: what it asks, how it judges a reply, and what its numbers become."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.benchmark_cases import FOLDER, module, put_on_the_path


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_the_path(monkeypatch)


def answer(image: np.ndarray) -> bytes:
    png = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(png, "PNG")
    return json.dumps({"predictions": [{"image": base64.b64encode(png.getvalue()).decode()}]}).encode()


@pytest.mark.slow
def test_requests_are_mixed_distinct_and_the_same_every_time():
    server = module("_server")
    asked = server.mixed(40, 0.3, 8)
    assert [one.body for one in asked] == [one.body for one in server.mixed(40, 0.3, 8)]
    good = [one for one in asked if one.row]
    bad = [one for one in asked if not one.row]
    assert len(good) == 28 and len({one.body for one in good}) == 28 and {one.status for one in good} == {200}
    assert len(bad) == 12 and {one.status for one in bad} <= {400, 415}
    assert len({server.bad(number, 8).body for number in range(13)}) == 13, "13 ways to be wrong"
    first = [bool(one.row) for one in asked[:20]]
    assert any(first) and not all(first), "they are mixed"


def test_every_wrong_reply_is_counted():
    server, serving = module("_server"), module("serving")
    good, bad = server.good(1, 8), server.bad(4, 8)
    expected = np.full((8, 8, 3), 100)
    reply = lambda status, body: server.Reply(status, body, 0.1)  # noqa: E731
    assert serving.judged(good, reply(200, answer(expected)), expected) is None
    assert serving.judged(good, reply(200, answer(expected + 1)), expected) is None
    assert serving.judged(good, reply(200, answer(expected + 2)), expected) == "another image than the loop's"
    assert serving.judged(good, reply(200, answer(expected[:4])), expected) == "another image than the loop's"
    assert "status 500 in the place of 200" in serving.judged(good, reply(500, b"x"), expected)
    assert "status 0" in serving.judged(good, reply(0, b"connection reset"), expected)
    told = json.dumps({"message": "row 0, column steps is 0"}).encode()
    assert serving.judged(bad, reply(400, told), None) is None
    assert serving.judged(bad, reply(400, b"{}"), None) == "no sentence"
    assert serving.judged(bad, reply(400, b'{"message": "Traceback"}'), None) == "a traceback"
    assert "status 200 in the place of 400" in serving.judged(bad, reply(200, answer(expected)), None)


def test_answers_that_are_alike_are_refused_as_a_measure():
    serving = module("serving")
    images = [np.full((2, 2, 3), value) for value in (0, 90, 180)]
    serving.check_distinct(images)
    with pytest.raises(RuntimeError, match="answer 3 is like another one"):
        serving.check_distinct([*images, images[1] + 1])


def load(serving, **changes):
    made = serving.Load(
        [0.9, 0.7, 0.8], [9.0, 7.0, 8.0], [10.0] * 3, [100.0] * 9, [10.0] * 5, serving.Counter({200: 9, 400: 5}),
        [500.0, 600.0, 610.0, 612.0], 14, [],
    )  # fmt: skip
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_rows_say_what_was_claimed_and_whether_it_holds():
    serving = module("serving")
    rate, wrong, memory = serving.rows_of(load(serving), 8)
    assert (rate["ratio"], rate["low"], rate["high"], rate["met"]) == (0.8, 0.7, 0.9, True)
    assert rate["good_ms"] == {"p50": 100.0, "p95": 100.0, "p99": 100.0}
    assert (wrong["ratio"], wrong["met"]) == (0.0, True)
    assert memory["ratio"] == pytest.approx(612 / 610) and memory["met"]
    slow, broken, leaking = serving.rows_of(
        load(serving, ratios=[0.5], faults=["x"], megabytes=[500.0, 600.0, 700.0]), 8
    )
    assert not slow["met"] and not broken["met"] and broken["wrong"] == 1 and not leaking["met"]
    for row in (rate, wrong, memory):
        assert {"name", "rival", "ratio", "target", "met", "unit", "n"} <= set(row)
    rows = [{**row, "command": "c", "machine": "m"} for row in (slow, broken, leaking)]
    assert serving.markdown(rows).count("**no**") == 3


@pytest.mark.slow
def test_a_small_load_on_a_real_server(tmp_path):
    path = tmp_path / "rows.json"
    module("serving").main(["--requests", "26", "--rounds", "2", "--clients", "4", "--json", str(path)])
    rate, wrong, memory = json.loads(path.read_text())
    assert wrong["wrong"] == 0 and sum(rate["statuses"].values()) == 26 and rate["statuses"]["200"] == 18
    assert rate["ratio"] > 0 and len(memory["megabytes"]) == 3


def test_the_readme_shows_the_load_as_it_was_measured():
    rows = json.loads((FOLDER / "results" / "serving" / "serving.json").read_text(encoding="utf-8"))
    assert module("serving").markdown(rows) in (FOLDER / "README.md").read_text(encoding="utf-8")
