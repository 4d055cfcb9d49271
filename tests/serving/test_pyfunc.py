"""The served model through MLflow's own loader, on a tiny random base: its answers, alone and from many threads."""

import base64
import hashlib
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lorweb.basis.mixes import mix_hash
from lorweb.recipe import Claims
from lorweb.reproduce import Given, reproduce
from lorweb.serving.artifacts import Submission
from lorweb.serving.registry import Registry
from tests.kontext_tiny import drawn_image
from tests.serving.requests_cases import png, record, text


def rows(**options: object) -> pd.DataFrame:
    return pd.DataFrame([record(**options)])


def decoded(answer: pd.DataFrame) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(value)))) for value in answer["image"]]


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False], ids=["with its hash", "registered before it was kept"])
def test_mlflow_itself_refuses_a_version_whose_metadata_was_edited(root, model, known):
    registry = Registry("lorweb", root)
    version = registry.submit(Submission(model, {}, {}))
    import mlflow
    import yaml

    (metadata,) = root.rglob("mlartifacts/**/artifacts/lorweb/metadata.json")
    described = metadata.parents[2] / "MLmodel"
    said = yaml.safe_load(described.read_text(encoding="utf-8"))
    assert said["flavors"]["python_function"]["config"] == {"content_sha256": version.content}
    if not known:
        del said["flavors"]["python_function"]["config"]
        described.write_text(yaml.safe_dump(said), encoding="utf-8")
    facts = json.loads(metadata.read_text(encoding="utf-8"))
    metadata.write_text(json.dumps({**facts, "num_inference_steps": 3}), encoding="utf-8")
    if known:
        with pytest.raises(ValueError, match=r"is damaged: its files have .* but were registered with"):
            mlflow.pyfunc.load_model("models:/lorweb@candidate")
    else:
        service = mlflow.pyfunc.load_model("models:/lorweb@candidate").unwrap_python_model().service
        assert service.pipe.steps == 3


@pytest.mark.slow
def test_rows_are_answered_in_order_whatever_way_images_are_sent(service):
    both = pd.concat([rows(seed=1), rows(seed=2)]).set_axis([7, 3])
    both.loc[3, "b"] = text(png(4, 24, 24))
    answer = service.predict(both)
    assert list(answer.index) == [7, 3]
    assert [image.shape[:2] for image in decoded(answer)] == [(40, 40), (24, 24)]
    as_bytes = pd.DataFrame([{"a": png(1), "a2": png(2), "b": png(3), "seed": 1}])
    assert service.predict(as_bytes)["image"].iloc[0] == answer["image"].iloc[0]


def test_the_answer_says_how_to_make_it_again(service, model):
    asked = {"seed": 7, "strength": 0.5, "steps": 2, "guidance": 3.5, "prompt": "ü"}
    answer = service.predict(rows(**asked)).iloc[0]
    told = json.loads(Image.open(io.BytesIO(base64.b64decode(answer["image"]))).text["lorweb"])
    assert told == json.loads(answer["settings"])
    assert {name: told[name] for name in asked} == asked
    images = [drawn_image(seed) for seed in (1, 2, 3)]
    assert told["basis_sha256"] == hashlib.sha256((model / "basis.safetensors").read_bytes()).hexdigest()
    assert told["mix"] == mix_hash(service.pipe.mix(*images))
    defaults = json.loads(service.predict(rows())["settings"].iloc[0])
    assert (defaults["steps"], defaults["guidance"]) == (service.pipe.steps, service.pipe.guidance)
    again = {name: told[name] for name in asked}
    assert service.predict(rows(**again)).iloc[0].equals(answer)


def test_a_served_picture_is_made_again_by_the_command(service, model, tmp_path):
    row = rows(seed=3, strength=0.7).iloc[0]
    names = {side: tmp_path / f"{side}.png" for side in ("a", "a2", "b")}
    for side, path in names.items():
        path.write_bytes(base64.b64decode(row[side]))
    (tmp_path / "b2.png").write_bytes(base64.b64decode(service.predict(rows(seed=3, strength=0.7))["image"].iloc[0]))
    again = reproduce(tmp_path / "b2.png", Given(names, model=str(model)))
    assert again.same and again.claims == Claims({}, {}, [])


def test_options_change_the_answer_and_missing_ones_are_the_defaults(service):
    plain = service.predict(rows())["image"].iloc[0]
    assert service.predict(rows(seed=0, strength=1.0, steps=None, prompt=None))["image"].iloc[0] == plain
    assert service.predict(rows(seed=1))["image"].iloc[0] != plain
    assert service.predict(rows(strength=0.0))["image"].iloc[0] != plain
    assert service.predict(rows(steps=1))["image"].iloc[0] != plain
    assert service.predict(rows(guidance=9.0))["image"].iloc[0] != plain
    assert service.predict(rows(seed=2**63 - 1))["image"].iloc[0] != plain


@pytest.mark.slow
def test_many_threads_get_the_answers_of_one(service):
    """Each asks for something else, of two rows: a mixed-up basis, seed or strength would show."""
    asked = [pd.concat([rows(seed=n, strength=n / 4), rows(seed=n + 100, prompt=f"p{n}")]) for n in range(8)]
    for n, frame in enumerate(asked):
        frame.iloc[0, frame.columns.get_loc("a2")] = text(png(20 + n))
    alone = [service.predict(frame)["image"].tolist() for frame in asked]
    assert len({image for images in alone for image in images}) == 16
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda frame: service.predict(frame)["image"].tolist(), asked * 2))
    assert together == alone * 2


@pytest.mark.slow
def test_rows_of_a_small_request_are_not_behind_all_of_a_large_one(service):
    ends = {}

    def ask(name, frame):
        service.predict(frame)
        ends[name] = time.monotonic()

    large = Thread(target=ask, args=("large", pd.concat([rows(steps=8)] * 12)))
    small = Thread(target=ask, args=("small", rows(steps=1)))
    large.start()
    time.sleep(0.05)
    small.start()
    large.join()
    small.join()
    assert ends["small"] < ends["large"]


def test_work_ends_when_nobody_waits_for_it_any_more(service):
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"not done within 0.2 s; send fewer rows or steps"):
        service.predict(pd.concat([rows(steps=200)] * 64), seconds=0.2)
    service.predict(rows())  # waits for its turn: 64 times 200 steps would be minutes
    assert time.monotonic() - begun < 60
