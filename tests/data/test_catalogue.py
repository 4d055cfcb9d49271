"""The catalogue: enough of every kind, and every rule refuses the file that breaks it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorweb.data.catalogue import PACKAGED, Catalogue, load_catalogue

CATALOGUE = load_catalogue()


def entry(name: str, *steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "id": f"colour/{name}",
        "edit_type": "colour",
        "holdout": "none",
        "fits": ["*"],
        "steps": list(steps),
        "instructions": [f"first {name}", f"second {name}"],
        **changes,
    }


HUE_60, HUE_120, HUE_180 = ({"edit": "hue", "degrees": d} for d in (60, 120, 180))
INVERT, SEPIA = {"edit": "invert"}, {"edit": "sepia"}


def load(tmp_path: Path, *tasks: dict[str, Any]) -> Catalogue:
    path = tmp_path / "catalogue.yaml"
    path.write_text(yaml.safe_dump({"tasks": list(tasks)}))
    return load_catalogue(path)


def fault(tmp_path: Path, *tasks: dict[str, Any]) -> str:
    with pytest.raises(ValueError) as caught:
        load(tmp_path, *tasks)
    return str(caught.value)


def test_the_packaged_catalogue_holds_enough_of_every_kind() -> None:
    holdouts = Counter(task.holdout for task in CATALOGUE.tasks)
    assert holdouts["none"] >= 58
    assert holdouts["value"] >= 6 and holdouts["composition"] >= 8 and holdouts["edit"] >= 6
    trained = Counter(task.edit_type for task in CATALOGUE.tasks if task.trained)
    assert len(trained) == 6 and min(trained.values()) >= 10
    assert sum(len(task.steps) > 1 for task in CATALOGUE.tasks if task.trained) >= 8


def test_every_packaged_task_fits_several_subjects() -> None:
    categories = ["photo", *(f"avatar:{style}" for style in ("thumbs", "moods", "planets", "pixel-art", "sprouts"))]
    for task in CATALOGUE.tasks:
        assert any(task.fits_category(category) for category in [*categories, *task.fits])


def test_the_hash_is_of_the_file(tmp_path: Path) -> None:
    one = load(tmp_path, entry("a", INVERT))
    assert one.sha256 != load(tmp_path, entry("b", INVERT)).sha256
    assert load_catalogue(PACKAGED).sha256 == CATALOGUE.sha256


def test_a_task_is_found_by_id_or_its_neighbour_named() -> None:
    assert CATALOGUE.task("colour/sepia").id == "colour/sepia"
    with pytest.raises(ValueError, match="did you mean 'colour/sepia'"):
        CATALOGUE.task("colour/seppia")


def test_unknown_names_are_answered_with_the_nearest(tmp_path: Path) -> None:
    assert "unknown edit 'invrt'; did you mean 'invert'?" in fault(tmp_path, entry("a", {"edit": "invrt"}))
    assert "no parameter 'degree'; did you mean 'degrees'?" in fault(tmp_path, entry("a", {"edit": "hue", "degree": 9}))
    assert "needs the parameter 'degrees'" in fault(tmp_path, entry("a", {"edit": "hue"}))
    assert "did you mean 'holdout'?" in fault(tmp_path, entry("a", INVERT, hold_out="none"))


def test_parameters_out_of_range_are_refused(tmp_path: Path) -> None:
    assert "hue.degrees is 400.0, outside 1 to 359" in fault(tmp_path, entry("a", {"edit": "hue", "degrees": 400}))
    assert "not a number" in fault(tmp_path, entry("a", {"edit": "hue", "degrees": "many"}))
    assert "not a whole number" in fault(tmp_path, entry("a", {"edit": "posterise", "levels": 2.5}))
    assert "not one of" in fault(tmp_path, entry("a", {"edit": "swap_channels", "order": "RGB"}))


def test_form_is_checked(tmp_path: Path) -> None:
    background, hat = {"edit": "background", "hue": 9}, {"edit": "wear", "kind": "hat"}
    assert "put it first" in fault(tmp_path, entry("a", INVERT, background))
    assert "put it first" in fault(tmp_path, entry("a", background, hat, edit_type="object"))
    assert "family of none" in fault(tmp_path, entry("a", INVERT, edit_type="style"))
    assert "lower case" in fault(tmp_path, entry("a", INVERT, instructions=["Invert it", "make it a negative"]))
    assert "at most 10 words" in fault(tmp_path, entry("a", INVERT, instructions=["a " * 11, "b"]))
    assert "'A B'" in fault(tmp_path, entry("a", INVERT, id="A B"))
    assert "names no edit" in fault(tmp_path, entry("a", {"degrees": 4}))


def test_tasks_must_differ(tmp_path: Path) -> None:
    assert "two tasks are called 'colour/a'" in fault(tmp_path, entry("a", INVERT), entry("a", SEPIA))
    assert "repeats colour/a" in fault(tmp_path, entry("a", INVERT), entry("b", INVERT))
    assert "repeats colour/a" in fault(tmp_path, entry("a", INVERT), entry("b", SEPIA, instructions=["first a", "x"]))


def test_an_unseen_value_lies_between_trained_ones(tmp_path: Path) -> None:
    low, high = entry("low", HUE_60), entry("high", HUE_180)
    assert load(tmp_path, low, high, entry("mid", HUE_120, holdout="value")).tasks[2].holdout == "value"
    assert "lies between trained values" in fault(tmp_path, low, entry("mid", HUE_120, holdout="value"))
    beyond = entry("beyond", {"edit": "hue", "degrees": 300}, holdout="value")
    assert "lies between trained values" in fault(tmp_path, low, high, beyond)
    tints = [entry(f"t{h}", {"edit": "tint", "hue": h, "strength": s}) for h, s in ((0, 0.2), (120, 0.9))]
    other = entry("t", {"edit": "tint", "hue": 60, "strength": 0.2}, holdout="value")
    assert "with its other parameters equal" in fault(tmp_path, *tints, other)


def test_an_unseen_composition_is_made_of_trained_edits_never_trained_together(tmp_path: Path) -> None:
    parts = entry("a", INVERT), entry("b", SEPIA)
    unseen = entry("c", INVERT, SEPIA, holdout="composition")
    assert len(load(tmp_path, *parts, unseen).tasks) == 3
    assert "'sepia' with {} is not trained on its own" in fault(tmp_path, parts[0], unseen)
    turned = entry("d", SEPIA, INVERT)
    assert "trained together in another task" in fault(tmp_path, *parts, turned, unseen)


def test_an_unseen_edit_is_used_by_no_trained_task(tmp_path: Path) -> None:
    assert len(load(tmp_path, entry("a", INVERT), entry("b", SEPIA, holdout="edit")).tasks) == 2
    inside = entry("c", {"edit": "heat"}, SEPIA)
    assert "but trained tasks use 'sepia'" in fault(tmp_path, inside, entry("b", SEPIA, holdout="edit"))


def test_broken_files_are_answered_by_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.yaml"
    for text, said in (("tasks: [", "is not YAML"), ("[]", "one key 'tasks'"), ("tasks: []", "one key 'tasks'")):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            load_catalogue(path)
