"""Pairs that exist: both halves alike, the task of the place, and every kind of half-made data set."""

import json
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from lorweb.data.readers.relation252k import readable, task_name
from lorweb.records import GIVEN
from tests.data.pictures import checks, encoded, noise, outcomes, pairs, pixels, reader_of, squared, write

LICENCE = "CC-BY-4.0"


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    both = Image.new("RGB", (left.width + right.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both


def label(name: str, **changes: object) -> dict[str, object]:
    said = {
        "left_image_description": f"left of {name}",
        "right_image_description": "r",
        "edit_instruction": f"do {name}",
    }
    return {"img_name": name, **said, **changes}


def relation(path: Path, instruction: str = "pair"):
    types = {"rel/*filter": "style", "rel/*": "object"}
    entry = {"name": "rel", "path": str(path), "licence": LICENCE, "instruction": instruction, "edit_types": types}
    return reader_of(reader="relation252k", **entry)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    group = tmp_path / "115-Colored Pencil Filter/Group1"
    for i in range(3):
        write(group / f"{i}.png", beside(noise(i), noise(10 + i)))
    write(group / "labels.json", json.dumps([label("0.png"), label("1.png"), label("2")]))
    write(tmp_path / "87-Gesture_Edit/Group1/w.png", beside(noise(0), noise(20)))
    write(tmp_path / "87-Gesture_Edit/Group1/labels.json", json.dumps([label("w.png")]))
    return tmp_path


def test_relation252k_as_it_is_published(published: Path) -> None:
    found = pairs(outcomes(relation(published)))
    assert len(found) == 4
    first = found["rel/115-Colored Pencil Filter/Group1/0.png"]
    assert set(first.given) == set(GIVEN.names)
    assert pixels(first.source["image"]) == squared(noise(0))
    assert pixels(first.given["after"]) == squared(noise(10))
    assert (first.source["caption"], first.source["licence"]) == ("left of 0.png", LICENCE)
    assert (first.given["task"], first.given["edit_type"]) == ("rel/115-colored-pencil-filter", "style")
    assert first.given["instruction"] == "do 0.png" and first.given["source"] == first.source["id"]
    other = found["rel/87-Gesture_Edit/Group1/w.png"]
    assert (other.given["task"], other.given["edit_type"]) == ("rel/87-gesture-edit", "object")
    assert first.source["subject"] == other.source["subject"] != found["rel/115-Colored Pencil Filter/Group1/2.png"].source["subject"]  # fmt: skip  # noqa: E501
    said = {pair.given["instruction"] for pair in pairs(outcomes(relation(published, "category"))).values()}
    assert said == {"colored pencil filter", "gesture edit"}


def test_category_names_are_read() -> None:
    names = ["115-Colored Pencil Filter", "87-Gesture_Edit", "3D  Style", "12_ß-Übung", "---"]
    assert [readable(name) for name in names] == ["colored pencil filter", "gesture edit", "3d style", "ß-übung", "---"]
    assert [task_name(name) for name in names[:3]] == ["115-colored-pencil-filter", "87-gesture-edit", "3d-style"]
    assert task_name("---") == "task"


def test_every_fault_of_a_relation252k_copy_is_named_and_costs_itself_alone(published: Path) -> None:
    odd = published / "1-Odd/Group2"
    write(odd / "odd.png", noise(1, (61, 40)))
    write(odd / "even.png", noise(2, (62, 40)))
    write(odd / "cut.jpg", encoded(noise(3), "JPEG")[:-600])
    write(odd / "thin.png", noise(4, (10, 40)))
    write(odd / "unnamed.png", noise(5))
    entries = [
        label(name) for name in ("odd.png", "even.png", "cut.jpg", "thin.png", "gone.png", "even.png", "../x.png")
    ]
    entries += [
        label("k.png", edit_instruction=" "),
        label("k.png", left_image_description=None),
        7,
        {"img_name": "k.png"},
    ]
    write(odd / "labels.json", json.dumps(entries))
    write(published / "2-Bad/Group1/labels.json", '[{"img_name"')
    write(published / "2-Bad/Group1/x.png", noise(6))
    write(published / "3-Bad/Group1/labels.json", '{"img_name": "x"}')
    write(published / "4-None/Group1/a.png", noise(7))
    write(published / "4-None/Group1/b.png", noise(8))
    write(published / "4-None/labels.json", "[]")
    (published / "87-Gesture_Edit/Group1/dangling.png").symlink_to(published / "no.png")
    found = outcomes(relation(published))
    assert len(pairs(found)) == 5
    assert checks(found) == {
        **{f"rel/1-Odd/Group2/{name}": check for name, check in ODD.items()},
        **{f"rel/1-Odd/Group2/labels.json[{i}]": check for i, check in LABELS.items()},
        "rel/2-Bad/Group1/labels.json": "bad_labels",
        "rel/3-Bad/Group1/labels.json": "bad_labels",
        "rel/4-None/Group1": "missing_labels",
        "rel/4-None/labels.json": "bad_labels",
        "rel/87-Gesture_Edit/Group1/dangling.png": "broken_link",
    }


ODD = {"odd.png": "odd_width", "cut.jpg": "truncated", "thin.png": "too_small", "gone.png": "missing", "unnamed.png": "no_label"}  # fmt: skip  # noqa: E501
LABELS = {5: "duplicate_name", 6: "outside", 7: "missing_key", 8: "missing_key", 9: "bad_labels", 10: "missing_key"}


def of_folders(path: Path, instruction: object = "sidecar", tolerance: float = 0.02):
    types = {"mine/paint*": "style"}
    entry = {"path": str(path), "licence": LICENCE, "instruction": instruction, "edit_types": types}
    return reader_of(reader="pairs", name="mine", **entry, aspect_tolerance=tolerance)


def test_pairs_by_folder_and_by_name(tmp_path: Path) -> None:
    write(tmp_path / "paint_it/before/a.png", noise(0))
    write(tmp_path / "paint_it/after/a.webp", encoded(noise(1), "WEBP", lossless=True))
    write(tmp_path / "paint_it/after/a.txt", "paint  it\n")
    write(tmp_path / "paint_it/before/deep/b.png", noise(2))
    write(tmp_path / "paint_it/after/deep/b.png", noise(3, (120, 80)))
    write(tmp_path / "paint_it/instruction.txt", "make it a painting")
    write(tmp_path / "x/y/c_before.png", noise(4))
    write(tmp_path / "x/y/c_after.png", noise(5))
    write(tmp_path / "x/y/c.json", '{"prompt": "turn it"}')
    write(tmp_path / "d_after.png", noise(6))
    write(tmp_path / "d_before.png", noise(0))
    found = pairs(outcomes(of_folders(tmp_path, {"text": "same for all"})))
    assert {pair.given["instruction"] for pair in found.values()} == {"same for all"} and len(found) == 4
    assert pixels(found["mine/paint_it/deep/b"].given["after"]) == squared(noise(3, (120, 80)))
    assert pixels(found["mine/paint_it/a"].given["after"]) == squared(noise(1))
    tasks = {name: (pair.given["task"], pair.given["edit_type"]) for name, pair in found.items()}
    assert tasks == {
        "mine/paint_it/a": ("mine/paint_it", "style"),
        "mine/paint_it/deep/b": ("mine/paint_it", "style"),
        "mine/x/y/c": ("mine/x/y", "other"),
        "mine/d": ("mine", "other"),
    }
    assert found["mine/paint_it/a"].source["subject"] == found["mine/d"].source["subject"]
    found = outcomes(of_folders(tmp_path))
    said = {name: pair.given["instruction"] for name, pair in pairs(found).items()}
    assert said == {
        "mine/paint_it/a": "paint it",
        "mine/paint_it/deep/b": "make it a painting",
        "mine/x/y/c": "turn it",
    }
    assert checks(found) == {"mine/d": "no_instruction"}
    by_folder = pairs(outcomes(of_folders(tmp_path, "folder")))
    assert by_folder["mine/paint_it/a"].given["instruction"] == "paint it"


def test_half_pairs_and_what_is_no_pair(tmp_path: Path) -> None:
    task = tmp_path / "t"
    for name in ("good", "turned", "cut", "empty_words", "bad_words"):
        write(task / f"before/{name}.png", noise(0))
        write(task / f"after/{name}.png", noise(1, (40, 60) if name == "turned" else (60, 40)))
        write(task / f"after/{name}.txt", {"empty_words": " ", "bad_words": b"\xff"}.get(name, "go"))
    write(task / "after/cut.png", encoded(noise(1))[:-900])
    write(task / "after/good.jpg", noise(2))
    write(task / "before/lonely.png", noise(0))
    write(task / "after/widow.png", noise(0))
    write(task / "stray.png", noise(0))
    write(task / "orphan.txt", "words of nobody")
    (task / "before/dead.png").symlink_to(task / "nowhere.png")
    found = outcomes(of_folders(tmp_path))
    assert list(pairs(found)) == ["mine/t/good"]
    assert checks(found) == {
        "mine/t/turned": "aspect",
        "mine/t/cut": "truncated",
        "mine/t/empty_words": "no_instruction",
        "mine/t/bad_words": "bad_caption",
        "mine/t/after/good.png": "duplicate_name",
        "mine/t/lonely": "no_after",
        "mine/t/widow": "no_before",
        "mine/t/stray.png": "not_a_pair",
        "mine/t/orphan.txt": "no_image",
        "mine/t/dead": "broken_link",
    }
    assert "mine/t/turned" in pairs(outcomes(of_folders(tmp_path, tolerance=2.0)))


def test_mistakes_in_the_entry_of_pairs_are_answered(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="unknown word 'folders'; did you mean 'folder'"):
        of_folders(tmp_path, "folders")
    with pytest.raises(ValueError, match="does not exist; correct"):
        of_folders(tmp_path / "no")
