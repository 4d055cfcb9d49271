"""What MLflow's scoring server answers: images to good requests, JSON with a sentence and 4xx to bad ones."""

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from lorweb.serving.artifacts import Submission
from lorweb.serving.registry import Registry
from tests.ram_disk import scratch
from tests.serving.requests_cases import BAD, record
from tests.serving.scoring import Answered, app_of, ask, healthy, mlflow_serve, post, until


@pytest.fixture(scope="module")
def served(model: Path, fresh_database: Path) -> Iterator[Path]:
    """A project whose champion is the tiny model."""
    root = scratch()
    shutil.copy2(fresh_database, root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        registry = Registry("lorweb", root)
        registry.promote(registry.submit(Submission(model, {}, {})))
        yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def loaded(served: Path) -> Any:
    import mlflow

    return mlflow.pyfunc.load_model("models:/lorweb@champion")


@pytest.fixture(scope="module")
def port(loaded: Any) -> Iterator[int]:
    with app_of(loaded) as port:
        yield port


def images(answered: Answered) -> list[str]:
    assert answered.status == 200, answered
    return [row["image"] for row in answered.json["predictions"]]


def refused(answered: Answered, status: int = 400) -> str:
    """The sentence of a refusal: JSON, no traceback."""
    assert answered.status == status and "Traceback" not in json.dumps(answered.json), answered
    return str(answered.json["message"])


@pytest.mark.slow
def test_rows_are_answered_as_the_service_answers_them(port, service):
    rows = [record(seed=3), record(prompt="p", strength=0.5), record(steps=1, guidance=2)]
    answered = ask(port, *rows)
    expected = service.predict(pd.DataFrame(rows))
    assert answered.json["predictions"] == expected.to_dict("records")
    picture = Image.open(io.BytesIO(base64.b64decode(images(answered)[0])))
    assert np.asarray(picture).shape == (40, 40, 3) and json.loads(picture.text["lorweb"])["seed"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        lambda rows: {"dataframe_records": rows},
        lambda rows: {"dataframe_split": {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}},
        lambda rows: {"inputs": rows},
        lambda rows: {"instances": rows},
    ],
    ids=["records", "split", "inputs", "instances"],
)
def test_every_shape_of_mlflows_protocol_is_answered(port, service, shape):
    rows = [record(seed=3), record(seed=4)]
    assert images(post(port, shape(rows))) == service.predict(pd.DataFrame(rows))["image"].tolist()


def test_parquet_with_raw_bytes_is_answered(port, service):
    rows = pd.DataFrame([{**record(seed=3), "a": base64.b64decode(record()["a"])}])
    body = io.BytesIO()
    rows.to_parquet(body)
    answered = post(port, body.getvalue(), "application/vnd.apache.parquet")
    assert images(answered) == service.predict(rows)["image"].tolist()


@pytest.mark.parametrize(("change", "message"), BAD, ids=[sentence[:60] for _, sentence in BAD])
def test_a_bad_row_is_refused_with_the_same_sentence_alone(port, service, change, message):
    with pytest.raises(ValueError, match=message) as expected:
        service.predict(pd.DataFrame([record(**change)]))
    assert refused(ask(port, record(**change))) == str(expected.value)


def test_bad_requests_are_refused_before_the_model_sees_them(port):
    assert "missing inputs ['b']" in refused(ask(port, {name: record()[name] for name in ("a", "a2")}))
    assert "missing inputs" in refused(post(port, {"dataframe_records": []}))
    assert "exactly one of the input fields" in refused(post(port, {"rows": [record()]}))
    assert "valid JSON" in refused(post(port, b"{not json"))
    assert "valid JSON" in refused(post(port, b"\xff\xfe"))
    assert "list of records" in refused(post(port, {"dataframe_records": record()}))
    assert "65 rows were sent; send 1 to 64" in refused(ask(port, *[record()] * 65))
    assert post(port, b"x", "text/plain") == Answered(415, None)
    assert post(port, b"{}", "application/json; charset=latin-1") == Answered(415, None)
    csv = post(port, b"sead\n1\n", "text/csv")
    assert (csv.status, csv.json["error_code"]) == (400, "BAD_REQUEST"), csv
    assert len(images(ask(port, record()))) == 1, "the server is as well as before"


def test_a_column_that_there_is_not_is_refused_and_only_in_its_own_request(port, loaded, service):
    """MLflow drops it before the model sees it: a misspelt option would be its default without a word."""
    assert refused(ask(port, record(sead=1))).startswith("unknown column 'sead'; did you mean 'seed'?")
    asked = [record(seed=n, **({"sead": n} if n % 2 else {})) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: ask(port, row), asked))
    assert [answered.status for answered in answers] == [200, 400] * 4
    with pytest.raises(MlflowException, match="unknown column 'colour'"):
        loaded.predict(pd.DataFrame([record(colour="red", step=3)])[["a", "a2", "b", "colour"]])
    assert loaded.predict(pd.DataFrame([record(seed=3)])).equals(service.predict(pd.DataFrame([record(seed=3)])))


def test_a_fault_of_the_model_is_no_fault_of_the_caller(port, loaded, monkeypatch, caplog):
    service = loaded.unwrap_python_model().service

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of memory at 0x1234")

    with monkeypatch.context() as patched:
        patched.setattr(service, "pipe", broken)
        patched.setattr(service, "_check_images", lambda row: None)
        sentence = refused(ask(port, record()), 500)
    assert sentence == "the model failed on a valid request (RuntimeError); the log of the server says where"
    assert "out of memory at 0x1234" in caplog.text
    assert len(images(ask(port, record()))) == 1


@pytest.mark.slow
def test_a_request_that_takes_longer_than_the_server_waits_is_told_so(port, monkeypatch):
    monkeypatch.setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "1")
    late = ask(port, *[record(steps=200)] * 64)
    assert refused(late, 504).startswith("the request was not done within 0.9 s; send fewer rows or steps")
    monkeypatch.delenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT")
    assert len(images(ask(port, record()))) == 1


@pytest.mark.slow
def test_a_request_that_waits_in_the_servers_queue_gets_mlflows_own_504(loaded, monkeypatch):
    monkeypatch.setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "1")
    service, begun = loaded.unwrap_python_model().service, []
    predict = service.predict
    monkeypatch.setattr(service, "predict", lambda *given: (begun.append(given), predict(*given))[1])
    crowd = 2 * ((os.cpu_count() or 1) + 4)  # twice what is let in
    with app_of(loaded) as port, ThreadPoolExecutor(crowd) as pool:
        answers = list(pool.map(lambda _: ask(port, *[record(steps=200)] * 8), range(crowd)))
        until(lambda: len(begun) == crowd, lambda: True, 20)  # the queue is worked off all the same
    assert {answered.status for answered in answers} == {504}
    assert any(answered.json is None for answered in answers)


@pytest.mark.slow
def test_good_and_bad_requests_at_once_get_their_own_answers(port, service):
    asked = [record(seed=n) if n % 3 else record(seed=-n - 1) for n in range(24)]
    good = iter(service.predict(pd.DataFrame([row for row in asked if row["seed"] >= 0]))["image"].tolist())
    expected = [next(good) if row["seed"] >= 0 else None for row in asked]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: ask(port, row), asked))
    for n, (answered, image) in enumerate(zip(answers, expected, strict=True)):
        if image is None:
            assert f"column seed is {-n - 1}" in refused(answered)
        else:
            assert images(answered) == [image]


@pytest.mark.slow
def test_mlflow_models_serve_answers_and_keeps_its_version_when_the_champion_changes(served, model, parts, service):
    from tests.model_tiny import save_model

    good, registry = record(seed=3), Registry("lorweb", served)
    expected = service.predict(pd.DataFrame([good]))["image"].tolist()
    with mlflow_serve(served, "models:/lorweb@champion", "--timeout", "100") as (port, process):
        assert images(ask(port, good)) == expected
        assert refused(ask(port, record(steps=0))).startswith("row 0, column steps is 0")
        first = registry.by_alias("champion")
        other = save_model(parts, served / "other", seed=5)
        registry.promote(registry.submit(Submission(other, {}, {})))
        assert images(ask(port, good)) == expected, "the version that was loaded"
        assert process.poll() is None and healthy(port)
    with mlflow_serve(served, f"models:/lorweb/{first.number}") as (port, _):
        assert images(ask(port, good)) == expected, "a version by its number"
    registry.rollback()
    assert "Traceback" not in (served / "serve.log").read_text(errors="replace")
    assert os.environ.get("MLFLOW_TRACKING_URI") is None
