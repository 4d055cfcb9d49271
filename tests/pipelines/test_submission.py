"""What goes into the registry beside the weights: licences of what was trained on, and of the base."""

import json

import pytest

from lorweb.data.shards import write_rows
from lorweb.evaluation.pictures import png_bytes
from lorweb.records import DERIVED, PAIR, TRAIN_PAIR
from pipelines._submission import base_licence, licences
from tests.kontext_tiny import drawn_image

PNG = png_bytes(drawn_image(0, 8, 8))


def pair(name: str, licence: str) -> dict:
    return {
        "id": name, "task": "t", "edit_type": "colour", "instruction": "i", "source_id": name, "subject": name,
        "category": "photo", "before": PNG, "after": PNG, "seed": 0, "editor": "e", "editor_revision": "1",
        "licence": licence, "scores": "{}",
    }  # fmt: skip


def trained(name: str) -> dict:
    return {"pair": name, "task": "t", "subject": name, "instruction": "i", "weight": 1}


def test_licences_are_those_of_the_training_pairs_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"a": "CC0-1.0", "b": "CC0-1.0", "c": "MIT", "d": "CC-BY-4.0", "never": "secret"}
    write_rows([pair(name, licence) for name, licence in names.items()], tmp_path / "data/pairs", PAIR)
    write_rows([trained(name) for name in ("a", "b", "c~d")], tmp_path / "data/analogies/train", TRAIN_PAIR)
    derived = [
        {"pair": "c~d", "before_pair": "c", "before_side": "after", "after_pair": "d", "after_side": "after"},
        {"pair": "x~y", "before_pair": "never", "before_side": "after", "after_pair": "a", "after_side": "after"},
    ]
    write_rows(derived, tmp_path / "data/analogies/derived", DERIVED)
    found = licences({"base": "tiny"})
    assert json.loads(found["licences"]) == {"CC-BY-4.0": 1, "CC0-1.0": 2, "MIT": 1}
    assert found["base_licence"] == "apache-2.0"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n# card\n", "mit"),
        (
            "---\nlicense: other\nlicense_name: flux-1-dev-non-commercial-license\n---\n",
            "flux-1-dev-non-commercial-license",
        ),
        ("---\nlicense: [\n---\n", None),
        ("# no front matter\n---\nlicense: mit\n---\n", None),
        (None, None),
    ],
)
def test_the_licence_of_a_base_is_what_its_card_says(tmp_path, card, licence):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert base_licence(str(tmp_path)) == (licence or f"unknown; see {tmp_path.name}")


def test_a_base_that_is_known_by_its_name_needs_no_folder():
    assert base_licence("black-forest-labs/FLUX.1-Kontext-dev") == "flux-1-dev-non-commercial-license"
    assert base_licence("someone/else") == "unknown; see someone/else"
