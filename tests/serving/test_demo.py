"""The demo as programs ask it: a real Gradio server on loopback, over HTTP."""

from pathlib import Path

import pytest
from PIL import Image

from tests.kontext.made import same
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


def test_the_server_fetches_no_address_and_opens_no_file_that_was_not_uploaded(address, tmp_path):
    from gradio_client.exceptions import AppError

    for path, sentence in (("http://127.0.0.1:9/b.png", "addresses are not fetched"), ("/etc/hostname", "")):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        with pytest.raises(AppError, match=sentence):
            ask(address, tmp_path, b=file)


def test_only_drawing_is_open_to_programs(address):
    from gradio_client import Client

    described = Client(address, verbose=False).view_api(return_format="dict")
    assert list(described["named_endpoints"]) == ["/draw"]
