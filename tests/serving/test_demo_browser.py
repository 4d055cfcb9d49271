"""The demo in a real browser: three uploads, b', sliders, a second exemplar, files to take home.

What the page shows is compared with what the pipeline gives in this process for the same question.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lorweb.basis.files import read_safetensors
from lorweb.basis.mix_files import load_mix
from lorweb.kontext.load import load_base
from tests.kontext.made import same
from tests.serving.demo_server import IMAGES, analogy_of, served
from tests.serving.demo_visitor import visiting

pytestmark = [pytest.mark.slow, pytest.mark.browser]
A, A2, B, C, C2 = IMAGES.values()


@pytest.fixture(scope="module")
def pipe(loaded):
    return loaded[0]


def test_three_uploads_give_the_pipelines_own_answer(visitor, files, pipe):
    image = visitor.give(analogy_of(files)).draw()
    assert image.format == "PNG" and same(image, pipe(A, A2, B, seed=0).images[0])
    assert visitor.page.locator("#lw-mix [role=listitem]").count() == pipe.config.n_loras
    assert "let it rain" in visitor.page.locator("#lw-tasks").inner_text()
    assert "colour/dim" in visitor.page.locator("#lw-tasks").inner_text()


def test_seed_strength_and_prompt_are_the_pipelines(visitor, files, pipe):
    visitor.give(analogy_of(files)).set("Seed", 7).set("Strength", 0.5)
    visitor.page.get_by_label("Prompt").fill("a hat")
    assert same(visitor.draw(), pipe(A, A2, B, "a hat", seed=7, strength=0.5).images[0])


def test_at_strength_0_it_is_the_bases_answer(visitor, files, pipe):
    base = pipe(A, A2, B, seed=0, mix=torch.zeros_like(pipe.mix(A, A2, B))).images[0]
    with_edit = visitor.give(analogy_of(files)).draw()
    without = visitor.set("Strength", 0).draw()
    assert same(without, base, by=1) and not same(with_edit, base, by=3)


def test_a_slider_that_is_let_go_draws_again(visitor, files, pipe):
    visitor.give(analogy_of(files)).draw()
    before = visitor.source()
    track = visitor.page.locator("#lw-strength input[type=range]").bounding_box()
    visitor.page.mouse.click(track["x"] + 2, track["y"] + track["height"] / 2)
    image = visitor.drawn(before)
    told = json.loads(image.info["lorweb"])
    assert told["strength"] == pytest.approx(-1.0, abs=0.1)
    assert same(image, pipe(A, A2, B, seed=0, strength=told["strength"]).images[0])


def test_a_slider_before_anything_was_drawn_asks_for_nothing(visitor):
    track = visitor.page.locator("#lw-strength input[type=range]").bounding_box()
    visitor.page.mouse.click(track["x"] + 2, track["y"] + track["height"] / 2)
    visitor.page.wait_for_timeout(1500)
    assert visitor.source() == "" and visitor.page.locator(".toast-body").count() == 0


def test_two_exemplars_at_0_and_1_are_each_alone(visitor, files, pipe):
    visitor.give(files)
    first, between, second = (visitor.set("Interpolation", t).draw() for t in (0, 0.5, 1))
    assert same(first, pipe(A, A2, B, seed=0).images[0]) and same(second, pipe(C, C2, B, seed=0).images[0])
    mix_LN = 0.5 * pipe.mix(A, A2, B) + 0.5 * pipe.mix(C, C2, B)
    assert same(between, pipe(C, C2, B, seed=0, mix=mix_LN).images[0], by=1)


def test_an_example_fills_the_board_and_draws(visitor, pipe):
    from tests.serving.demo_server import EXAMPLES

    visitor.page.locator("#lw-examples button").filter(has=visitor.page.locator("img")).nth(1).click()
    visitor.page.locator("#lw-b img").wait_for()
    example = EXAMPLES[1]
    assert same(visitor.draw(), pipe(example.a, example.a2, example.b, seed=0).images[0])


def test_what_is_taken_home_is_whole_and_loads(visitor, files, loaded, parts, tmp_path):
    pipe, basis = loaded
    visitor.give(analogy_of(files)).draw()
    png, mix = visitor.download("lw-png", tmp_path), visitor.download("lw-mix-file", tmp_path)
    told = json.loads(Image.open(png).info["lorweb"])
    assert same(Image.open(png).convert("RGB"), pipe(A, A2, B, seed=0).images[0])
    torch.testing.assert_close(load_mix(mix, basis), pipe.mix(A, A2, B), atol=0, rtol=0)
    visitor.page.locator("#lw-bake").click()
    visitor.page.locator("#lw-baked", has_text="Rank 6").wait_for()
    lora = visitor.download("lw-lora", tmp_path)
    tensors, metadata = read_safetensors(lora)
    assert json.loads(metadata["lorweb_bake"])["mix"] == told["mix"]
    stock = load_base(str(parts / "kontext"), torch.float32, "cpu").pipeline
    stock.load_lora_weights(str(lora), adapter_name="home")
    assert tensors and stock.get_active_adapters() == ["home"]
    assert png.suffix == ".png" and {mix.suffix, lora.suffix} == {".safetensors"}


def test_b_forms_step_by_step(chromium, loaded, files):
    """Many steps, so that some are seen on their way: each picture of the answer that is shown is another."""
    pipe, _ = loaded
    steps, pipe.steps = pipe.steps, 40
    try:
        with served(loaded) as url, visiting(chromium, url) as visitor:
            visitor.give(analogy_of(files))
            visitor.page.evaluate(
                """() => { window.shown = new Set(); const seen = () => { const image =
                    document.querySelector('#lw-answer img'); if (image) window.shown.add(image.src); };
                    new MutationObserver(seen).observe(document.body,
                        {subtree: true, childList: true, attributes: true}); }"""
            )
            last = visitor.draw()
            shown = visitor.page.evaluate("[...window.shown]")
    finally:
        pipe.steps = steps
    assert len(shown) >= 3, "b' did not stream in"
    assert np.asarray(last).shape == (B.height, B.width, 3)


def test_two_visitors_at_once_get_their_own_answers(chromium, address, files, pipe):
    with visiting(chromium, address) as one, visiting(chromium, address) as two:
        one.give(analogy_of(files))
        two.give({**analogy_of(files), "b": files["c"]})
        before = one.source(), two.source()
        for visitor in (one, two):
            visitor.page.locator("#lw-draw").click()
        answers = one.drawn(before[0]), two.drawn(before[1])  # both first: the pipeline here is the server's own
        assert same(answers[0], pipe(A, A2, B, seed=0).images[0])
        assert same(answers[1], pipe(A, A2, C, seed=0).images[0])
