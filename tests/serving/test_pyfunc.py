"""The served model through MLflow's own loader, on a tiny random base; and what it refuses."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lorweb.serving import pyfunc
from lorweb.serving.artifacts import Submission
from lorweb.serving.registry import Registry
from tests.kontext_tiny import drawn_image


def png(seed: int, side: int = 40) -> bytes:
    buffer = io.BytesIO()
    drawn_image(seed, side, side).save(buffer, "PNG")
    return buffer.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def rows(**options: object) -> pd.DataFrame:
    return pd.DataFrame([{"a": text(png(1)), "a2": text(png(2)), "b": text(png(3)), **options}])


def decoded(answer: pd.DataFrame) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(value)))) for value in answer["image"]]


@pytest.fixture(scope="session")
def service(model) -> pyfunc.AnalogyService:
    return pyfunc.AnalogyService(model)


def test_the_champion_answers_through_mlflow_as_the_pipeline_does(root, model, service):
    registry = Registry("lorweb", root)
    registry.promote(registry.submit(Submission(model, {}, {})))
    import mlflow

    loaded = mlflow.pyfunc.load_model("models:/lorweb@champion")
    answer = loaded.predict(rows(seed=5, strength=0.5))
    image = decoded(answer)[0]
    assert image.shape == (40, 40, 3), "b's own size comes back"
    expected = service.pipe(drawn_image(1), drawn_image(2), drawn_image(3), seed=5, strength=0.5).images[0]
    assert np.abs(image.astype(int) - np.asarray(expected).astype(int)).max() <= 1
    example = loaded.input_example
    assert example is not None and len(decoded(loaded.predict(example))) == 1


def test_rows_are_answered_in_order_whatever_way_images_are_sent(service):
    both = pd.concat([rows(seed=1), rows(seed=2)]).set_axis([7, 3])
    both.loc[3, "b"] = text(png(4, 24))
    answer = service.predict(both)
    assert list(answer.index) == [7, 3]
    assert [image.shape[:2] for image in decoded(answer)] == [(40, 40), (24, 24)]
    as_bytes = pd.DataFrame([{"a": png(1), "a2": png(2), "b": png(3), "seed": 1}])
    assert service.predict(as_bytes)["image"].iloc[0] == answer["image"].iloc[0]


def test_options_change_the_answer_and_missing_ones_are_the_defaults(service):
    plain = service.predict(rows())["image"].iloc[0]
    assert service.predict(rows(seed=0, strength=1.0, steps=None, prompt=None))["image"].iloc[0] == plain
    assert service.predict(rows(seed=1))["image"].iloc[0] != plain
    assert service.predict(rows(strength=0.0))["image"].iloc[0] != plain
    assert service.predict(rows(steps=1))["image"].iloc[0] != plain


def bomb() -> str:
    buffer = io.BytesIO()
    Image.new("1", (5000, 5000)).save(buffer, "PNG")
    return text(buffer.getvalue())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": "no base64!"}, "row 0, column a is not base64"),
        ({"a": text(b"GIF89a no image")}, "row 0, column a is not an image this service reads"),
        ({"b": text(png(3)[:200])}, "row 0, column b cannot be decoded"),
        ({"b": bomb()}, "row 0, column b has 5000x5000 px, more than the limit of 16777216 px"),
        ({"a2": "A" * 30_000_000}, "row 0, column a2 has 30000000 characters of base64"),
        ({"a2": 5}, "row 0, column a2 is a int; send bytes or base64 text"),
        ({"seed": -1}, "row 0, column seed is -1; it must be a whole number from 0"),
        ({"seed": 1.5}, "row 0, column seed is 1.5"),
        ({"steps": 1000}, "row 0, column steps is 1000; it must be a whole number from 1 to 200"),
        ({"strength": float("inf")}, "row 0, column strength is inf; it must be a finite number"),
        ({"strength": "much"}, "row 0, column strength is 'much'; it must be a number"),
        ({"prompt": "x" * 3000}, "row 0, column prompt must be text of at most 2000 characters"),
        ({"colour": "red"}, r"unknown \['colour'\]; needed are a, a2, b"),
    ],
)
def test_bad_requests_are_refused_with_the_row_and_the_reason(service, change, message):
    with pytest.raises(ValueError, match=message):
        service.predict(rows(**change))


def test_counts_and_columns_are_checked(service):
    with pytest.raises(ValueError, match=r"missing \['b'\]"):
        service.predict(rows().drop(columns="b"))
    with pytest.raises(ValueError, match="0 rows were sent; send 1 to 64"):
        service.predict(rows().iloc[:0])
    with pytest.raises(ValueError, match="65 rows were sent"):
        service.predict(pd.concat([rows()] * 65))
