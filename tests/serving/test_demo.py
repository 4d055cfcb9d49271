"""The demo as programs ask it: a real Gradio server on loopback, over HTTP."""

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from PIL import Image

from lorweb.serving.demo import build_page
from lorweb.serving.demo_gate import upload_folder
from lorweb.serving.demo_host import Host
from lorweb.serving.demo_layout import picture
from tests.kontext.made import same
from tests.serving.demo_http import functions, queued, uploaded
from tests.serving.demo_server import IMAGES, LIMITS, save_images, served

pytestmark = pytest.mark.slow
A, A2, B, *_ = IMAGES.values()


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
    return [*images.values(), 0.5, 1, 3, "", 0]


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


def test_uploads_are_looked_at_so_often_within_a_minute(loaded):
    with served(loaded, replace(LIMITS, uploads_per_minute=2)) as url:
        said = [told(queued(url, check, [None])) for check in functions(url, "upload")]
        assert all("Image " in one and "is missing" in one for one in said[:2])
        assert all("You have uploaded 2 times within a minute; upload again in" in one for one in said[2:])
        assert len(said) == 5


def test_uploads_of_all_fields_wait_in_one_line_two_at_once(loaded, tmp_path):
    page = build_page(Host(*loaded, "no data", LIMITS, tmp_path), [])
    checks = [one for one in page.fns.values() if any(target[1] == "upload" for target in one.targets)]
    assert len(checks) == 5 and {(one.concurrency_id, one.concurrency_limit) for one in checks} == {("uploads", 2)}


def test_no_call_goes_round_the_queue(address):
    for function in [*functions(address, "upload"), *functions(address, "submit")]:
        call = {"data": [None] * 9, "fn_index": function, "session_hash": "round"}
        answer = httpx.post(f"{address}gradio_api/run/predict", json=call)
        assert answer.status_code == 404 and "join the queue" in answer.text


def test_gradio_hands_out_the_answers_files_and_keeps_no_copies(address):
    png = io.BytesIO()
    A.save(png, "PNG")
    file = {"path": uploaded(address, png.getvalue())}
    (draw,) = functions(address, "submit")
    data = queued(address, draw, form(a=file, a2=file, b=file))[-1]["output"]["data"]
    for path in (Path(data[0]["path"]), Path(data[4]["value"]["path"]), Path(data[5]["value"]["path"])):
        holder = path.parent.parent
        assert path.is_file() and holder.name.startswith("lorweb-demo-") and holder.parent == upload_folder()


def test_pictures_of_a_field_are_noted_to_go_when_they_are_old(tmp_path):
    A.save(tmp_path / "a.png")
    field = picture("a", "a", 100, "a")
    for path in (tmp_path / "a.png", tmp_path, tmp_path / "none.png"):
        assert asyncio.run(field.async_move_resource_to_block_cache(str(path))) == str(path)
    assert field.temp_files == {str(tmp_path / "a.png")}


def test_only_drawing_is_open_to_programs(address):
    from gradio_client import Client

    described = Client(address, verbose=False).view_api(return_format="dict")
    assert list(described["named_endpoints"]) == ["/draw"]
