"""Sheets of pictures: every model that drew has a column, with its name above and its pixels below."""

import numpy as np
import pytest

from lorweb.evaluation.pictures import GAP, LABELS, UNDRAWN, PictureRow, pictured, png_bytes, sheet
from tests.kontext_tiny import drawn_image

SIDE = 64


def row(*names: str) -> PictureRow:
    images = {name: png_bytes(drawn_image(number, SIDE, SIDE)) for number, name in enumerate(names)}
    return PictureRow("colour/red", "make it red", "seen", images)


def test_every_drawn_model_has_a_column_with_its_pixels():
    names = [name for name in LABELS if pictured(name)]
    assert {"base_prompt", "lorweb_shuffled", "official", "single_lora_prompt"} < set(names) > {"a", "b", "truth"}
    found = row(*names)
    pixels = np.asarray(sheet([found], SIDE))
    assert pixels.shape[1] == GAP + len(names) * (SIDE + GAP)
    rows = [y for y in range(pixels.shape[0]) if np.array_equal(pixels[y, GAP : GAP + SIDE], first_line(0))]
    for place in range(len(names)):
        left = GAP + place * (SIDE + GAP)
        shown = pixels[rows[0] : rows[0] + SIDE, left : left + SIDE]
        assert np.array_equal(shown, np.asarray(drawn_image(place, SIDE, SIDE)))
        assert (pixels[: rows[0], left : left + SIDE] < 128).any(), f"no name above {names[place]}"
        assert (pixels[: rows[0], left - GAP : left] == 255).all(), f"the name of {names[place]} runs into another"


def first_line(number: int) -> np.ndarray:
    return np.asarray(drawn_image(number, SIDE, SIDE))[0]


def test_what_one_row_lacks_is_white_and_an_unknown_model_has_its_name():
    pixels = np.asarray(sheet([row("a", "b", "somebody_elses"), row("a", "b", "truth")], SIDE))
    assert pixels.shape[1] == GAP + 4 * (SIDE + GAP)
    last = slice(GAP + 3 * (SIDE + GAP), None)
    half = pixels.shape[0] // 2
    assert (pixels[half - SIDE // 2 : half - 20, last] == 255).all() and (pixels[-SIDE:, last] < 255).any()


def test_references_that_nobody_drew_are_not_pictured():
    assert not any(pictured(name) for name in (*UNDRAWN, "lorweb_identity", "single_lora_shuffled"))
    with pytest.raises(ValueError, match="at least one row of pictures"):
        sheet([], SIDE)
