"""Health of a model folder: the queries of the pipeline's data and of images, the files, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from lorweb.basis.bare import load_bare
from lorweb.basis.encoders import load_encoder
from lorweb.basis.health_files import write_health
from lorweb.basis.mix_health import mix_health
from lorweb.data.manifest import Manifest, write_manifest
from lorweb.data.shards import write_rows
from lorweb.kontext.metadata import read_metadata, write_metadata
from lorweb.kontext.pipeline import AnalogyPipeline
from lorweb.model_health import measure, queries_of_data, queries_of_triples
from lorweb.records import ANALOGY, ENCODED_IMAGE, ENCODED_PAIR, ENCODED_TEXT
from tests.kontext_tiny import drawn_image
from tests.model_tiny import QUADRANT, save_model, save_parts

MODE = "cat-aa'b"
COUNT = 5  # analogies: pair i is the exemplar for the b of pair i + 1


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def model(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(parts, tmp_path_factory.mktemp("models") / "one") / "basis.safetensors"


@pytest.fixture(scope="module")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a, a2 and b that are quadrants already, so that nothing is resized."""
    root = tmp_path_factory.mktemp("triples")
    for i in range(COUNT):
        (root / f"t{i}").mkdir()
        for name, seed in (("a", i), ("a2", 100 + i), ("b", i + 1)):
            drawn_image(seed, QUADRANT, QUADRANT).save(root / f"t{i}" / f"{name}.png")
    return root


def write_data(root: Path, parts: Path, query_mode: str = MODE) -> Path:
    """The same images as the encode stage would leave them: pair i goes from image i to image 100 + i."""
    encoder = load_encoder(f"clip:{parts / 'clip'}")
    seeds = [*range(COUNT + 1), *range(100, 101 + COUNT)]
    features = encoder([drawn_image(seed, QUADRANT, QUADRANT) for seed in seeds])
    latents = torch.zeros(16, 4, 4).half()
    images = [
        {"image": f"{seed:03}", "tensors": save({"latents": latents, "features": row.clone()})}
        for seed, row in zip(seeds, features, strict=True)
    ]
    text = {"prompt_embeds": torch.zeros(2, 3).half(), "pooled": torch.zeros(3).half()}
    pairs = [{"pair": f"p{i}", "before": f"{i:03}", "after": f"{100 + i:03}"} for i in range(COUNT + 1)]
    write_rows(images, root / "encoded", ENCODED_IMAGE)
    write_rows([{"instruction": "", "tensors": save(text)}], root / "encoded" / "text", ENCODED_TEXT)
    pq.write_table(pa.Table.from_pylist(pairs, ENCODED_PAIR), root / "encoded" / "pairs.parquet")
    recipe = {"query_mode": query_mode, "encoder_revision": encoder.revision}
    write_manifest(root / "encoded", Manifest(len(images), {}, recipe, {}))
    analogies = [analogy(i, "test") for i in range(COUNT)] + [analogy(COUNT - 1, "val")]
    write_rows(analogies, root / "analogies", ANALOGY)
    write_manifest(root / "analogies", Manifest(len(analogies), {}, {}, {}))
    return root


def analogy(i: int, split: str) -> dict:
    return {
        "id": f"{split}{i}", "task": "t", "edit_type": "colour", "exemplar": f"p{i}", "query": f"p{i + 1}",
        "instruction": "unused", "split": split, "holdout": "none", "subject_seen": False,
    }  # fmt: skip


@pytest.fixture(scope="module")
def data(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), parts)


def test_images_and_encoded_data_ask_the_same_and_the_pipeline_agrees(model, data, triples) -> None:
    metadata = read_metadata(model.parent)
    from_data, from_images = queries_of_data(data, metadata, MODE), queries_of_triples(triples, metadata, MODE)
    assert from_data.shape == (COUNT, 24) and torch.allclose(from_data, from_images, atol=1e-4)
    found = measure(model, Path("nowhere"), triples)
    pipe = AnalogyPipeline.from_pretrained(model)
    opened = [[Image.open(triples / f"t{i}" / f"{name}.png") for name in ("a", "a2", "b")] for i in range(COUNT)]
    expected = mix_health(torch.stack([pipe.mix(*images) for images in opened]))
    assert found.queries == COUNT
    assert found.effective_loras == pytest.approx(expected.effective_loras, rel=1e-5)
    assert measure(model, data, None).mix_spread == pytest.approx(expected.mix_spread, rel=1e-3)


def test_equal_health_is_equal_files(model, data, tmp_path) -> None:
    found = measure(model, data, None)
    numbers, picture = write_health(found, tmp_path / "new" / "one")
    assert json.loads(numbers.read_text()) == json.loads(found.to_json())
    assert Image.open(picture).format == "PNG" and len(np.unique(np.asarray(Image.open(picture)))) > 10
    again = write_health(measure(model, data, None), tmp_path / "two")
    assert [path.read_bytes() for path in again] == [numbers.read_bytes(), picture.read_bytes()]
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["health.json", "health.png"]


def test_the_base_is_not_needed(model, data, tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "basis.safetensors").write_bytes(model.read_bytes())
    write_metadata(folder, replace(read_metadata(model.parent), base="/no/such/base"))
    assert measure(folder / "basis.safetensors", data, None) == measure(model, data, None)


def test_data_that_cannot_be_asked_is_refused(model, data, parts, tmp_path) -> None:
    metadata = read_metadata(model.parent)
    with pytest.raises(FileNotFoundError, match=r"encoded; run the pipeline up to encode, or .*--triples"):
        queries_of_data(tmp_path, metadata, MODE)
    with pytest.raises(
        ValueError, match=r"the basis was trained with encoder_revision other, but .*encoded has encoder_revision"
    ):
        queries_of_data(data, replace(metadata, encoder_revision="other"), MODE)
    with pytest.raises(ValueError, match=r"trained with query_mode cat-aa'b, but .* has query_mode ca'-ca; set encode"):
        queries_of_data(write_data(tmp_path / "mode", parts, "ca'-ca"), metadata, MODE)
    stale = write_data(tmp_path / "stale", parts)
    write_rows([analogy(COUNT + 3, "test")], stale / "analogies", ANALOGY)
    with pytest.raises(ValueError, match=r"2 pairs of the analogies are not encoded, first p8; run the stages"):
        queries_of_data(stale, metadata, MODE)
    write_rows([analogy(0, "val")], stale / "analogies", ANALOGY)
    with pytest.raises(ValueError, match="no test analogy; run the stages"):
        queries_of_data(stale, metadata, MODE)


def test_images_that_cannot_be_asked_are_refused(model, triples, tmp_path) -> None:
    metadata = read_metadata(model.parent)
    for empty in (tmp_path, tmp_path / "gone"):
        with pytest.raises(FileNotFoundError, match="no sub-folder in"):
            queries_of_triples(empty, metadata, MODE)
    (tmp_path / "t").mkdir()
    for name in ("a", "b"):
        drawn_image(1).save(tmp_path / "t" / f"{name}.png")
    with pytest.raises(FileNotFoundError, match=r"no image a2 in .*t; it needs a, a2 and b"):
        queries_of_triples(tmp_path, metadata, MODE)
    with pytest.raises(ValueError, match=r"trained with encoder clip:.* \(other\), but that is now .*; give"):
        queries_of_triples(triples, replace(metadata, encoder_revision="other"), MODE)


def test_internal_queries_cannot_be_asked_from_outside(model, data, tmp_path) -> None:
    from lorweb.basis import checkpoint, remove_basis, router_of
    from lorweb.basis.inject import add_basis
    from tests.basis.cases import INTERNAL

    bare = load_bare(model)
    settings = router_of(bare).config.model_copy(update=INTERNAL)
    remove_basis(bare)
    add_basis(bare, settings, seed=0)
    checkpoint.save(bare, tmp_path / "basis.safetensors", {})
    write_metadata(tmp_path, read_metadata(model.parent))
    with pytest.raises(ValueError, match="has internal queries: its coefficients change"):
        measure(tmp_path / "basis.safetensors", data, None)
