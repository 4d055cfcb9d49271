"""metadata.json: what is written is read, and what is missing is named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lorweb.kontext.metadata import METADATA_FILE, ModelMetadata, read_metadata, write_metadata

METADATA = ModelMetadata("tiny", "0123", "pixels", "1", 64, 12, 1.0, {"seed": 3, "catalogue": "abc"})


def test_written_is_read_and_bytes_repeat(tmp_path: Path) -> None:
    write_metadata(tmp_path, METADATA)
    first = (tmp_path / METADATA_FILE).read_bytes()
    write_metadata(tmp_path, METADATA)
    assert (tmp_path / METADATA_FILE).read_bytes() == first
    assert read_metadata(tmp_path) == METADATA
    assert [f.name for f in tmp_path.iterdir()] == [METADATA_FILE], "no temporary file is left"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": None}, "encoder is None, which is of the wrong type"),
        ({"quadrant": "64"}, "quadrant is '64'"),
        ({"quadrnt": 3}, "unknown key 'quadrnt'"),
        ({"latents": "grids"}, "unknown latents 'grids'; did you mean 'grid'"),
        ({"latents": 2}, "latents is 2, which is of the wrong type"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_metadata(tmp_path, METADATA)
    path = tmp_path / METADATA_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_metadata(tmp_path)


def test_missing_keys_files_and_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no metadata\.json"):
        read_metadata(tmp_path)
    (tmp_path / METADATA_FILE).write_text('{"base": "tiny"}')
    with pytest.raises(ValueError, match="lacks 'base_revision'"):
        read_metadata(tmp_path)
    (tmp_path / METADATA_FILE).write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        read_metadata(tmp_path)


def test_a_file_that_does_not_say_how_its_grids_were_made_is_of_quadrants(tmp_path: Path) -> None:
    write_metadata(tmp_path, replace(METADATA, latents="grid"))
    assert read_metadata(tmp_path).latents == "grid"
    path = tmp_path / METADATA_FILE
    found = json.loads(path.read_text())
    del found["latents"]
    path.write_text(json.dumps(found))
    assert read_metadata(tmp_path).latents == "quadrant"
