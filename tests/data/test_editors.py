"""Edits: every task changes a fitting subject visibly, repeatably, and only what it says it changes."""

import numpy as np
import pytest
from PIL import Image

from lorweb.data.avatars import BASE
from lorweb.data.catalogue import Step, Task, load_catalogue
from lorweb.data.decode import decode_rgb
from lorweb.data.editors import EDITS, EmbeddedEditor, SourceInfo, apply_task
from lorweb.data.editors.attribute import (
    BEARDS,
    BODY,
    EYES,
    FACES,
    HAIR,
    HAIR_COLOUR,
    MOUTHS,
    PLANTS,
    RINGS,
    SKIES,
    TOPS,
    WEAR,
    Table,
)
from lorweb.data.editors.base import FAMILIES, Choice
from lorweb.data.editors.style import NEURAL
from lorweb.data.readers import SourceRow
from lorweb.data.rejects import Rejected
from tests.data.world import SIZE, sources

CATALOGUE = load_catalogue()
EDITOR = EmbeddedEditor()
TABLES: dict[str, Table] = {
    "mouth": MOUTHS, "eyes": EYES, "top": TOPS, "plant": PLANTS, "face": FACES, "wear": WEAR,
    "beard": BEARDS, "hair": HAIR, "ring": RINGS, "sky": SKIES,
}  # fmt: skip


def change(before: Image.Image, after: Image.Image) -> float:
    """Mean absolute difference, 0..255."""
    return float(np.abs(np.asarray(before, float) - np.asarray(after, float)).mean())


def task_of(edit: str, **params: float | str) -> Task:
    return Task(f"test/{edit}", EDITS[edit].family, (Step(edit, params),), ("one", "two"), ("*",), "none")


def image_of(row: SourceRow) -> Image.Image:
    return decode_rgb(row["image"], SIZE * SIZE)


def fitting(task: Task) -> list[SourceRow]:
    return [row for row in sources() if task.fits_category(row["category"])]


@pytest.mark.slow
@pytest.mark.parametrize("task", CATALOGUE.tasks, ids=lambda task: task.id)
def test_every_task_changes_its_subjects_and_repeats_itself(task: Task) -> None:
    rows = fitting(task)[:4]
    assert len(rows) >= 2
    changes = []
    for row in rows:
        after = EDITOR.edit(task, dict(row), seed=3)
        assert (after.mode, after.size) == ("RGB", (SIZE, SIZE))
        changes.append(change(image_of(row), after))
    assert after.tobytes() == EmbeddedEditor().edit(task, dict(row), seed=3).tobytes()
    assert max(changes) > 1.0  # of 255: the smallest, an opened mouth, moves 20 pixels of 64 x 64 by half the range


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_every_attribute_exists_in_every_style_that_claims_it(name: str) -> None:
    for kind, styles in TABLES[name].items():
        assert set(styles) <= set(BASE)
        for style in styles:
            row = next(row for row in sources() if row["category"] == f"avatar:{style}")
            after = EDITOR.edit(task_of(name, kind=kind), dict(row), 0)
            assert after.tobytes() != image_of(row).tobytes(), f"{name} {kind} does nothing to {style}"


def test_an_attribute_leaves_the_rest_of_the_picture_alone() -> None:
    row = next(row for row in sources() if row["category"] == "avatar:moods")
    difference = np.asarray(image_of(row), int) - np.asarray(EDITOR.edit(task_of("mouth", kind="frown"), dict(row), 0))
    changed = np.abs(difference).max(axis=-1) > 8
    assert changed[SIZE // 2 :].any()
    assert not changed[: SIZE // 3].any()


def test_colour_attributes_cover_the_styles_they_claim() -> None:
    for name, options in (("body_colour", BODY), ("hair_colour", HAIR_COLOUR)):
        for style in options:
            row = next(row for row in sources() if row["category"] == f"avatar:{style}")
            one, two = (EDITOR.edit(task_of(name, hue=hue), dict(row), 0) for hue in (0, 200))
            assert change(one, two) > 1.0


@pytest.mark.slow
def test_neural_styles_stay_apart() -> None:
    row = dict(sources()[0])
    painted = [EDITOR.edit(task_of("paint", name=name, strength=1.0), row, 0) for name in NEURAL]
    apart = [change(a, b) for i, a in enumerate(painted) for b in painted[:i]]
    assert len(apart) == 120
    assert min(apart) > 8


def test_the_pattern_depends_on_the_seed_a_little_and_never_on_the_image() -> None:
    snow = task_of("snow", density=0.4)
    info = SourceInfo("photos:x:0", "photo")
    dark, grey = (Image.new("RGB", (128, 128), (v, v, v)) for v in (0, 128))
    masks = [np.asarray(apply_task(image, snow, info, 1))[..., 0] > 200 for image in (dark, grey)]
    assert masks[0].any()
    assert (masks[0] == masks[1]).mean() > 0.95  # the edges of flakes are soft, so not all of them
    seeds = {apply_task(dark, snow, info, seed).tobytes() for seed in range(6)}
    assert len(seeds) > 1


def test_heavy_snow_contains_light_snow() -> None:
    black, info = Image.new("RGB", (64, 64)), SourceInfo("photos:x:0", "photo")
    rng = [np.random.default_rng(0) for _ in range(2)]
    from lorweb.data.editors.base import Args

    light, heavy = (
        np.asarray(EDITS["snow"].apply(black, info, r, Args({"density": d})), int)
        for r, d in zip(rng, (0.1, 0.6), strict=True)
    )
    assert light.max() > 200
    assert (heavy >= light).all()


def test_edits_agree_across_resolutions() -> None:
    info = SourceInfo("photos:x:0", "photo")
    large = Image.fromarray(np.asarray(image_of(sources()[1]).resize((128, 128), Image.Resampling.BICUBIC)))
    small = large.resize((64, 64), Image.Resampling.BOX)
    for edit, params in (
        ("frame", {"hue": 0, "width": 0.125}),
        ("blur", {"radius": 0.05}),
        ("zoom", {"factor": 0.5}),
        ("add", {"thing": "heart"}),
        ("fog", {"density": 0.6}),
    ):
        task = task_of(edit, **params)
        shrunk = apply_task(large, task, info, 0).resize((64, 64), Image.Resampling.BOX)
        assert change(shrunk, apply_task(small, task, info, 0)) < 4, edit


def test_known_answers_of_simple_edits() -> None:
    info = SourceInfo("photos:x:0", "photo")
    image = image_of(sources()[0])
    a = np.asarray(image)
    assert np.array_equal(np.asarray(apply_task(image, task_of("flip", axis="horizontal"), info, 0)), a[:, ::-1])
    assert np.array_equal(np.asarray(apply_task(image, task_of("invert"), info, 0)), 255 - a)
    assert np.array_equal(np.asarray(apply_task(image, task_of("rotate", degrees=90), info, 0)), np.rot90(a, -1))
    assert np.array_equal(np.asarray(apply_task(image, task_of("swap_channels", order="BGR"), info, 0)), a[..., ::-1])
    red = apply_task(Image.new("RGB", (8, 8), (200, 0, 0)), task_of("hue", degrees=120), info, 0).getpixel((0, 0))
    assert red[1] > 190 and max(red[0], red[2]) < 10


def test_steps_apply_in_order() -> None:
    info, image = SourceInfo("photos:x:0", "photo"), image_of(sources()[0])
    frame, invert = Step("frame", {"hue": 0, "width": 0.2}), Step("invert", {})
    both = Task("test/both", "colour", (frame, invert), ("one", "two"), ("*",), "none")
    red, green, blue = apply_task(image, both, info, 0).getpixel((1, 1))
    assert red < 60 and min(green, blue) > 180


def test_what_does_not_fit_is_rejected_with_a_reason() -> None:
    photo, planet = sources()[0], next(row for row in sources() if row["category"] == "avatar:planets")
    with pytest.raises(Rejected, match="unfit"):
        EDITOR.edit(CATALOGUE.task("attribute/hat"), dict(photo), 0)
    with pytest.raises(Rejected, match="not_an_avatar"):
        EDITOR.edit(task_of("wear", kind="hat"), dict(photo), 0)
    with pytest.raises(Rejected, match="unfit"):
        EDITOR.edit(task_of("wear", kind="hat"), dict(planet), 0)
    with pytest.raises(ValueError, match="give a square RGB image"):
        apply_task(Image.new("L", (8, 8)), task_of("invert"), SourceInfo("photos:x:0", "photo"), 0)


def test_the_registry_is_complete_and_used() -> None:
    assert {edit.family for edit in EDITS.values()} == set(FAMILIES)
    assert all(edit.name == name for name, edit in EDITS.items())
    assert {step.edit for task in CATALOGUE.tasks for step in task.steps} == set(EDITS)
    things = EDITS["add"].params["thing"]
    assert isinstance(things, Choice)
    for thing in things.options:
        before = image_of(sources()[0])
        assert change(before, EDITOR.edit(task_of("add", thing=thing), dict(sources()[0]), 0)) > 2


def test_the_revision_is_stable() -> None:
    assert EmbeddedEditor().revision == EDITOR.revision
    assert len(EDITOR.revision) == 16
