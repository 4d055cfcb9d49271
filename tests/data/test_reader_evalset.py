"""The evaluation set, as far as its layout is known: edited images find their photos, and what is missing is told."""

from pathlib import Path

import pytest
from PIL import Image

from tests.data.pictures import checks, noise, outcomes, pairs, pixels, reader_of, squared, write

EDITED = "decoded_random_inference_set/db_not_in_trainset"


def evalset(path: Path):
    entry = {"path": str(path), "licence": "LicenseRef-Unsplash", "edit_types": {"*/bronze": "style"}}
    return reader_of(reader="evalset", name="lorweb", **entry, aspect_tolerance=0.03)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    write(tmp_path / "original/unsplash_animals/cat-1-unsplash.jpg", noise(0, (300, 200)))
    write(tmp_path / "original/unsplash_animals/dog-unsplash.png", noise(1, (300, 200)))
    for n, prompt in enumerate(("Bronze", "Turn_it_into_clay")):
        write(tmp_path / f"{EDITED}/animals/{prompt}/cat-1-unsplash_2.png", noise(5 + n, (152, 100)))
    write(tmp_path / f"{EDITED}/animals/Bronze/dog-unsplash_1.png", noise(7, (150, 100)))
    return tmp_path


def test_edited_images_find_their_photos(published: Path) -> None:
    found = outcomes(evalset(published))
    assert len(pairs(found)) == 3 and not checks(found)
    cats = [pair for name, pair in found.items() if "cat" in name]
    assert {pair.source["subject"] for pair in cats} == {"photo:lorweb/animals/cat-1-unsplash"}
    assert len({pair.source["id"] for pair in cats}) == 2
    clay = found["lorweb/db_not_in_trainset/animals/Turn_it_into_clay/cat-1-unsplash_2.png"]
    assert (clay.given["task"], clay.given["edit_type"]) == ("lorweb/animals/turn-it-into-clay", "other")
    assert clay.given["instruction"] == "Turn it into clay" and clay.source["licence"] == "LicenseRef-Unsplash"
    assert pixels(clay.given["after"]) == squared(noise(6, (152, 100)))
    photo = Image.open(published / "original/unsplash_animals/cat-1-unsplash.jpg")
    assert pixels(clay.source["image"]) == squared(photo)
    assert {pair.given["edit_type"] for name, pair in found.items() if "Bronze" in name} == {"style"}


def test_what_is_missing_is_told(published: Path) -> None:
    write(published / f"{EDITED}/animals/Bronze/fox-unsplash_1.png", noise(8))
    write(published / f"{EDITED}/persons/Bronze/cat-1-unsplash_1.png", noise(8))
    write(published / f"{EDITED}/sheet.png", noise(8))
    write(published / f"{EDITED}/animals/Bronze/dog-unsplash_3.png", noise(8, (100, 100)))
    (published / "original/unsplash_animals/owl-unsplash.jpg").symlink_to(published / "nowhere.jpg")
    write(published / f"{EDITED}/animals/Bronze/owl-unsplash_1.png", noise(8))
    place = "lorweb/db_not_in_trainset"
    assert checks(outcomes(evalset(published))) == {
        f"{place}/animals/Bronze/fox-unsplash_1.png": "no_before",
        f"{place}/persons/Bronze/cat-1-unsplash_1.png": "no_before",
        f"{place}/sheet.png": "unexpected",
        f"{place}/animals/Bronze/dog-unsplash_3.png": "aspect",
        f"{place}/animals/Bronze/owl-unsplash_1.png": "broken_link",
    }


def test_a_folder_that_is_not_the_set_is_answered(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder 'original' in .*; give the folder that holds"):
        evalset(tmp_path)
    with pytest.raises(ValueError, match="does not exist; correct"):
        evalset(tmp_path / "no")
