"""The demo by keyboard alone, in a real browser: Tab to a part of the page, then the keys that its kind answers to.

Nothing here clicks, and nothing is focused but by Tab.
"""

import json

import pytest
import torch
from PIL import Image

from lorweb.basis.files import read_safetensors
from lorweb.basis.mix_files import load_mix
from tests.kontext.made import same
from tests.serving.demo_server import EXAMPLES, IMAGES, THREE
from tests.serving.demo_visitor import FIELDS

pytestmark = [pytest.mark.slow, pytest.mark.browser]
A, A2, B, C, C2 = IMAGES.values()
STOPS = 120  # more than the page has places to tab to


class Keys:
    """A visitor's hands on the keyboard."""

    def __init__(self, visitor):
        self.visitor, self.page, self.choosers = visitor, visitor.page, []
        self.page.on("filechooser", self.keep)  # from the start: a dialog that nobody listens for is lost

    def keep(self, chooser):
        self.choosers.append(chooser)

    def to(self, place, way="Tab"):
        """Tab until an element of that selector, or one in it, is focused."""
        for _ in range(STOPS):
            self.page.keyboard.press(way)
            if self.page.evaluate("place => document.activeElement.closest(place) !== null", place):
                return self
        raise AssertionError(f"no Tab leads to {place}")

    def press(self, key, times=1):
        for _ in range(times):
            self.page.keyboard.press(key)
        return self

    def give(self, files):
        """Choose files for fields that stand in this order."""
        for name, path in files.items():
            self.to(f"#{FIELDS[name]}").press("Enter")
            while not self.choosers:
                self.page.wait_for_timeout(50)
            self.choosers.pop().set_files(path)
            self.page.locator(f"#{FIELDS[name]} img").wait_for()
        return self

    def draw(self):
        before = self.visitor.source()
        self.to("#lw-draw").press("Enter")
        return self.visitor.drawn(before)

    def download(self, elem_id, folder):
        self.to(f"#{elem_id}")
        with self.page.expect_download() as waiting:
            self.press("Enter")
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path


@pytest.fixture
def keys(visitor):
    visitor.page.evaluate("document.activeElement.blur()")
    return Keys(visitor)


@pytest.fixture
def pipe(loaded):
    return loaded[0]


def test_three_files_a_slider_and_what_is_taken_home(keys, files, loaded, tmp_path):
    pipe, basis = loaded
    assert same(keys.give({name: files[name] for name in THREE}).draw(), pipe(A, A2, B, seed=0).images[0])
    before = keys.visitor.source()
    keys.to("#lw-strength input[type=range]", "Shift+Tab").press("ArrowLeft", 5)
    keys.visitor.moved = True  # each key draws
    image = keys.visitor.drawn(before)
    told = json.loads(image.info["lorweb"])
    assert told["strength"] == pytest.approx(0.75) and same(image, pipe(A, A2, B, seed=0, strength=0.75).images[0])
    png, mix = keys.download("lw-png", tmp_path), keys.download("lw-mix-file", tmp_path)
    assert same(Image.open(png).convert("RGB"), image)
    torch.testing.assert_close(load_mix(mix, basis), pipe.mix(A, A2, B), atol=0, rtol=0)
    keys.to("#lw-bake").press("Enter")
    keys.page.locator("#lw-baked", has_text="Rank 6").wait_for()
    _, metadata = read_safetensors(keys.download("lw-lora", tmp_path))
    assert json.loads(metadata["lorweb_bake"])["mix"] == told["mix"]


def test_an_example_is_picked_and_drawn(keys, pipe):
    keys.to("#lw-examples button:has(img)").to("#lw-examples button:has(img)").press("Enter")
    keys.page.locator("#lw-b img").wait_for()
    example = EXAMPLES[1]
    assert same(keys.draw(), pipe(example.a, example.a2, example.b, seed=0).images[0])


def test_a_second_exemplar_and_how_much_of_it(keys, files, pipe):
    keys.give({name: files[name] for name in THREE}).to("#lw-second button").press("Enter")
    keys.page.locator("#lw-c").wait_for()
    keys.give({name: files[name] for name in ("c", "c2")})
    keys.to("#lw-second input[type=range]").press("End")
    keys.visitor.moved = True
    assert same(keys.draw(), pipe(C, C2, B, seed=0).images[0])
