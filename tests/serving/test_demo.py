"""The demo as programs ask it: a real Gradio server on loopback, over HTTP."""

import io
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.kontext.made import same
from tests.serving.demo_http import functions, queued, uploaded
from tests.serving.demo_server import IMAGES, LIMITS, load, save_images, served

pytestmark = pytest.mark.slow
A, A2, B, *_ = IMAGES.values()


@pytest.fixture(scope="module")
def loaded(model):
    return load(model)


@pytest.fixture(scope="module")
def address(loaded):
    with served(loaded) as url:
        yield url


def ask(address: str, folder: Path, **changes):
    """The answer to a form whose fields are changed."""
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, download_files=str(folder))
    paths = save_images(folder)
    form = {"a": handle_file(paths["a"]), "a2": handle_file(paths["a2"]), "b": handle_file(paths["b"])}
    form |= {"c": None, "c2": None, "t": 0.5, "strength": 1.0, "seed": 3, "prompt": "", **changes}
    return client.predict(*form.values(), api_name="/draw")


def test_the_page_draws_what_the_pipeline_draws(address, loaded, tmp_path):
    image, status, mix, *_ = ask(address, tmp_path)
    assert same(Image.open(image).convert("RGB"), loaded[0](A, A2, B, seed=3).images[0])
    assert "Drawn: 64 × 44 px" in status and mix.count('role="listitem"') == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"b": None}, "Image b is missing; drop one into its field"),
        ({"strength": 9}, "The strength is 9; give a number from -1 to 2"),
        ({"seed": None}, "The seed is &#x27;None&#x27;; give a number|The seed is 'None'; give a number"),
        ({"prompt": "x" * (LIMITS.prompt + 1)}, "The prompt is longer than 1000 letters"),
    ],
)
def test_a_form_that_cannot_be_drawn_is_answered_by_a_sentence(address, tmp_path, changes, sentence):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match=sentence):
        ask(address, tmp_path, **changes)


FILE = {"meta": {"_type": "gradio.FileData"}}


def told(said: list[dict]) -> str:
    """The sentences of an answer, warnings and errors."""
    logs = [event["log"] for event in said if event["msg"] == "log"]
    return " ".join([*logs, str((said[-1].get("output") or {}).get("error"))])


def form(**changes) -> list:
    images = {"a": None, "a2": None, "b": None, "c": None, "c2": None} | changes
    return [*images.values(), 0.5, 1, 3, ""]


@pytest.fixture
def outside(tmp_path):
    """A picture and a path of no file, outside the folder that uploads come in."""
    A.save(tmp_path / "secret.png")
    return [str(tmp_path / name) for name in ("secret.png", "none.png")]


def test_an_upload_is_looked_at_and_given_back(address):
    png = io.BytesIO()
    A.save(png, "PNG")
    file = {"path": uploaded(address, png.getvalue())}
    for marks in ({}, FILE):
        for function in functions(address, "upload"):
            (data,) = queued(address, function, [file | marks])[-1]["output"]["data"]
            assert same(Image.open(io.BytesIO(httpx.get(data["url"]).content)).convert("RGB"), A)


def test_no_file_that_was_not_uploaded_is_looked_at(address, outside):
    checks = functions(address, "upload")
    assert len(checks) == 5
    for path in [*outside, "http://127.0.0.1:9/b.png"]:
        for function in checks:
            said = queued(address, function, [{"path": path}])
            assert "was not uploaded; drop it into its field" in told(said)
            assert said[-1]["output"]["data"] == [None]


def test_no_file_that_was_not_uploaded_is_drawn_with(address, outside):
    (draw,) = functions(address, "submit")
    for path in [*outside, "http://127.0.0.1:9/b.png"]:
        said = queued(address, draw, form(a={"path": path}))
        assert "Image a was not uploaded; drop it into its field, or pick an example." in told(said)
        assert not said[-1]["success"] and "data" not in said[-1]["output"]


def test_gradio_itself_refuses_what_says_that_it_is_a_file_and_tells_nothing_of_it(address, outside):
    (draw,) = functions(address, "submit")
    calls = [(one, lambda file: [file]) for one in functions(address, "upload")] + [(draw, lambda file: form(b=file))]
    for function, data in calls:
        said = [queued(address, function, data({"path": path} | FILE)) for path in outside]
        assert [told(one) for one in said] == ["None", "None"]
        assert not any(one[-1]["success"] or "data" in one[-1]["output"] for one in said)
    said = queued(address, functions(address, "upload")[0], [{"path": "http://127.0.0.1:9/b.png"} | FILE])
    assert "an image must be uploaded; addresses are not fetched" in told(said)


def test_only_drawing_is_open_to_programs(address):
    from gradio_client import Client

    described = Client(address, verbose=False).view_api(return_format="dict")
    assert list(described["named_endpoints"]) == ["/draw"]
