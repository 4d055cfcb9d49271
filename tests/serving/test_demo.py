"""The web demo: a real Gradio server on loopback, asked over HTTP as its page asks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lorweb.kontext.canvas import CanvasRule
from lorweb.kontext.grid import Size
from lorweb.kontext.load import load_base
from lorweb.kontext.pipeline import AnalogyPipeline
from lorweb.serving.demo import build_page, draw, find_examples
from tests.cluster.head import free_port
from tests.kontext.made import A2, CONFIG, A, train
from tests.kontext_tiny import PixelEncoder, drawn_image, save_tiny_kontext

B = drawn_image(5, 70, 44)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> AnalogyPipeline:
    base = load_base(str(save_tiny_kontext(tmp_path_factory.mktemp("base") / "kontext")), torch.float32, "cpu")
    train(base)
    return AnalogyPipeline(base, PixelEncoder(), CONFIG, CanvasRule(Size(32, 32)))


@pytest.fixture(scope="module")
def address(pipe: AnalogyPipeline) -> Iterator[str]:
    page = build_page(pipe)
    _, url, _ = page.launch(
        server_name="127.0.0.1", server_port=free_port(), share=False, prevent_thread_lock=True, quiet=True
    )
    yield url
    page.close()


def ask(address: str, folder: Path, images: dict[str, Image.Image | None]) -> tuple[Image.Image, dict]:
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, download_files=str(folder))
    files = []
    for name, image in images.items():
        if image is not None:
            image.save(folder / f"{name}.png")
        files.append(None if image is None else handle_file(folder / f"{name}.png"))
    answer, mix = client.predict(*files, 1.0, 3, "", api_name="/draw")
    return Image.open(answer).convert("RGB"), mix


@pytest.mark.slow
def test_the_page_draws_what_the_pipeline_draws(address, pipe, tmp_path):
    image, mix = ask(address, tmp_path, {"a": A, "a2": A2, "b": B})
    expected = pipe(A, A2, B, seed=3).images[0]
    assert image.size == B.size
    assert int(np.abs(np.asarray(image, dtype=int) - np.asarray(expected, dtype=int)).max()) <= 1
    shares = [row["confidence"] for row in mix["confidences"]]
    assert len(shares) == CONFIG.n_loras and sum(shares) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.slow
def test_a_missing_image_is_a_sentence_on_the_page(address, tmp_path):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match="image b is missing; drop one into its field"):
        ask(address, tmp_path, {"a": A, "a2": A2, "b": None})


def test_a_huge_image_is_refused(pipe, monkeypatch):
    monkeypatch.setattr("lorweb.serving.demo.MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="image b is 70x44 px; give one below 1000 pixels"):
        draw(pipe, (drawn_image(0, 20, 20), drawn_image(1, 20, 20), B), 1.0, 0, "")


def test_without_a_run_there_are_no_examples(tmp_path):
    assert find_examples(tmp_path) == []
