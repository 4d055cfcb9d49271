"""The demo's page itself: bad files, a phone, the dark, a full queue, and no other host."""

from dataclasses import replace

import pytest
from PIL import Image

from tests.browser import PHONE, scrolls_sideways
from tests.kontext.bad_images import REFUSED, TAKEN
from tests.kontext.made import same
from tests.serving.demo_server import IMAGES, LIMITS, analogy_of, served
from tests.serving.demo_visitor import visiting

pytestmark = [pytest.mark.slow, pytest.mark.browser]
A, A2, B, *_ = IMAGES.values()
BAD = {
    "text.png": b"this is no image at all\n" * 20,
    "empty.png": b"",
    "cut.png": REFUSED["truncated PNG"][0](),
    "cut.jpg": REFUSED["truncated JPEG"][0](),
    "bomb.png": REFUSED["bomb"][0](),
}
ODD = {
    "cmyk.jpg": "CMYK",
    "moving.gif": "animated GIF",
    "deep.png": "16-bit colour PNG",
    "turned.png": "EXIF-rotated PNG",
}


def test_a_bad_file_is_a_sentence_and_the_page_goes_on(visitor, files, tmp_path, loaded):
    for name, data in BAD.items():
        (tmp_path / name).write_bytes(data)
        visitor.page.locator("#lw-b input[type=file]").set_input_files(tmp_path / name)
        assert "Image b cannot be used: " in visitor.said()
        visitor.page.locator("#lw-b input[type=file]").wait_for(state="attached")
        visitor.close_notices()
    assert same(visitor.give(analogy_of(files)).draw(), loaded[0](A, A2, B, seed=0).images[0])


@pytest.mark.parametrize("name", list(ODD))
def test_an_odd_image_is_drawn_with_as_it_looks(visitor, files, tmp_path, loaded, name):
    odd = TAKEN[ODD[name]]()
    (tmp_path / name).write_bytes(odd.data)
    image = visitor.give({**analogy_of(files), "b": tmp_path / name}).draw()
    assert image.size == odd.shows.size
    if odd.by <= 1:
        assert same(image, loaded[0](A, A2, odd.shows, seed=0).images[0], by=3)


def test_a_missing_image_is_named(visitor, files):
    visitor.give({name: files[name] for name in ("a", "b")}).page.locator("#lw-draw").click()
    assert "Image a' is missing; drop one into its field, or pick an example." in visitor.said()


def test_too_large_a_file_is_refused_and_the_page_goes_on(chromium, loaded, files, tmp_path):
    Image.effect_noise((300, 300), 90).save(tmp_path / "large.png")
    with served(loaded, replace(LIMITS, file_bytes=20_000)) as url, visiting(chromium, url) as visitor:
        visitor.page.locator("#lw-b input[type=file]").set_input_files(tmp_path / "large.png")
        assert "size" in visitor.said()
        visitor.close_notices()
        visitor.give(analogy_of(files)).draw()


def test_who_asks_too_often_is_told_when_to_come_back(chromium, loaded, files):
    with served(loaded, replace(LIMITS, per_minute=1)) as url, visiting(chromium, url) as visitor:
        visitor.give(analogy_of(files)).draw()
        visitor.page.locator("#lw-draw").click()
        assert "You have asked 1 times within a minute; ask again in" in visitor.said()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_on_a_phone_nothing_scrolls_sideways(chromium, address, files, colours):
    with visiting(chromium, address, PHONE, color_scheme=colours, device_scale_factor=2) as visitor:
        visitor.give(analogy_of(files)).draw()
        assert not scrolls_sideways(visitor.page)
        boxes = [visitor.page.locator(f"#lw-{name}").bounding_box() for name in ("a", "a2", "b", "answer")]
        (a, a2, b, answer) = boxes
        assert a["y"] == a2["y"] < b["y"] == answer["y"] and a["x"] == b["x"] < a2["x"] == answer["x"]


def test_dark_follows_the_system_and_a_button_turns_it(chromium, address):
    grounds = {}
    for colours in ("light", "dark"):
        with visiting(chromium, address, color_scheme=colours) as visitor:
            ground = "getComputedStyle(document.body).backgroundColor"
            first = visitor.page.evaluate(ground)
            visitor.page.locator("#lw-theme").click()
            visitor.page.wait_for_function(f"before => {ground} !== before", arg=first)
            grounds[colours] = [first, visitor.page.evaluate(ground)]
    assert grounds["light"] == grounds["dark"][::-1]


def test_no_other_host_is_asked_and_the_console_is_clean(visitor, files):
    visitor.give(analogy_of(files)).draw()
    visitor.page.wait_for_timeout(1000)
    assert visitor.seen.foreign == []
    assert visitor.seen.errors == []


def test_a_full_queue_says_so(chromium, loaded, files):
    pipe, _ = loaded
    steps, pipe.steps = pipe.steps, 300
    try:
        with (
            served(loaded, replace(LIMITS, waiting=1)) as url,
            visiting(chromium, url) as one,
            visiting(chromium, url) as two,
            visiting(chromium, url) as three,
        ):
            for visitor in (one, two, three):
                visitor.give(analogy_of(files))
            for visitor in (one, two, three):
                visitor.page.locator("#lw-draw").click()
                visitor.page.wait_for_timeout(400)
            said = three.said().lower()
            assert "busy" in said or "full" in said
            for visitor in (one, two):
                visitor.stop()
    finally:
        pipe.steps = steps


@pytest.fixture
def endless(loaded):
    """The pipeline, which draws for a long time until its steps are set to those it had: (pipe, steps)."""
    pipe, _ = loaded
    steps, pipe.steps = pipe.steps, 1000
    yield pipe, steps
    pipe.steps = steps


def test_stop_ends_a_run_and_the_next_is_whole(chromium, loaded, files, endless):
    pipe, steps = endless
    with served(loaded) as url, visiting(chromium, url) as visitor:
        visitor.give(analogy_of(files)).page.locator("#lw-draw").click()
        visitor.page.locator(".lw-status", has_text="Step").wait_for()
        visitor.stop()
        pipe.steps = steps
        assert same(visitor.draw(), pipe(A, A2, B, seed=0).images[0])


def test_stop_ends_what_has_not_begun_and_the_next_is_whole(chromium, loaded, files, endless):
    """Stop is pressed before the server has answered the question, and while it waits for another visitor's run."""
    pipe, steps = endless
    with served(loaded) as url, visiting(chromium, url) as one, visiting(chromium, url) as two:
        for visitor in (one, two):
            visitor.give(analogy_of(files))
        two.page.locator("#lw-draw").click()
        two.stop()
        one.page.locator("#lw-draw").click()
        one.page.locator(".lw-status", has_text="Step").wait_for()
        two.press()
        two.page.locator("#lw-answer .progress-text", has_text="queue").wait_for()
        two.stop()
        assert "Step" in one.status(), "only the visitor's own run ends"
        one.stop()
        pipe.steps = steps
        assert same(two.draw(), pipe(A, A2, B, seed=0).images[0])
