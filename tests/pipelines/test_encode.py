"""Encode: each image and each text once, by the same functions that `apply` calls, in any batching the same bytes."""

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load

from lorweb.basis.encoders import load_encoder
from lorweb.data.manifest import read_manifest
from lorweb.data.shards import read_table
from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar
from lorweb.kontext.codec import encode_image
from lorweb.kontext.grid import Size, fit_image
from lorweb.kontext.load import load_base
from lorweb.kontext.query import query_of
from lorweb.records import ANALOGY, ENCODED_IMAGE, ENCODED_TEXT, PAIR, TRAIN_PAIR
from lorweb.training.dataset import Encoded, Triple, load_train_pairs
from lorweb.training.sampler import AnalogySampler, other_exemplar
from pipelines import encode
from pipelines._rows import in_process
from tests.pipelines.encoded_project import changes, copy_with
from tests.pipelines.projects import contents, write_params

pytestmark = pytest.mark.slow


def test_every_image_and_text_in_use_is_there_once(encoded):
    pairs = {row["id"]: row for row in read_table(encoded / "data/pairs", PAIR).to_pylist()}
    train = read_table(encoded / "data/analogies/train", TRAIN_PAIR).to_pylist()
    listed = read_table(encoded / "data/analogies", ANALOGY).to_pylist()
    used = {r["pair"] for r in train} | {r[k] for r in listed for k in ("exemplar", "query")}
    images = {pairs[name][side] for name in used for side in ("before", "after")}
    assert len(images) > 5
    assert read_table(encoded / "data/encoded", ENCODED_IMAGE, ["image"]).num_rows == len(images)
    texts = read_table(encoded / "data/encoded/text", ENCODED_TEXT, ["instruction"])["instruction"].to_pylist()
    assert set(texts) == {""} | {r["instruction"] for r in train} | {r["instruction"] for r in listed}
    metrics = json.loads((encoded / "metrics/encode.json").read_text())
    assert (metrics["kept"], metrics["texts"], metrics["pairs"]) == (len(images), len(texts), len(used))


def test_latents_and_features_are_those_of_apply(encoded):
    facts = read_manifest(encoded / "data/encoded")["params"]
    base, encoder = load_base(str(encoded / "base"), torch.float32, "cpu"), load_encoder(facts["encoder"])
    assert (facts["base_revision"], facts["encoder_revision"]) == (base.revision, encoder.revision)
    data = Encoded.load(encoded / "data/encoded")
    pair = next(r for r in read_table(encoded / "data/pairs", PAIR).to_pylist() if r["id"] in data.pairs)
    image = fit_image(Image.open(io.BytesIO(pair["after"])), Size(32, 32), "crop")[0]
    assert torch.equal(data.latents(pair["id"])[1], encode_image(base, [image])[0].half().float())
    assert torch.equal(data.features(pair["id"])[1], encoder([image])[0].half().float())
    text = data.text(pair["instruction"])
    assert torch.equal(text.prompt_BTE, base.text([pair["instruction"]]).prompt_BTE.half().float())


def test_training_can_build_grids_from_it(encoded):
    data = Encoded.load(encoded / "data/encoded")
    row = read_table(encoded / "data/analogies", ANALOGY).to_pylist()[0]
    batch = data.grid_batch([Triple(row["exemplar"], row["query"], "")])
    assert batch.x0_BCHW.shape[-2:] == (8, 8) and batch.query_BQ.shape == (1, data.query_dim)


def test_other_batches_give_the_same_bytes_and_a_rerun_encodes_nothing(encoded, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    monkeypatch.chdir(folder)
    first = contents(folder / "data/encoded")

    def never(job, batches):
        raise AssertionError("everything is encoded")

    encode.main(never)
    assert contents(folder / "data/encoded") == first
    shutil.rmtree(folder / ".work/encode")
    write_params(folder, changes(encoded / "base", batch_size=7))
    encode.main(in_process)
    assert {k: v for k, v in contents(folder / "data/encoded").items() if k != "_manifest.json"} == {
        k: v for k, v in first.items() if k != "_manifest.json"
    }
    saved = load(read_table(folder / "data/encoded", ENCODED_IMAGE)["tensors"][0].as_py())
    assert {name: tensor.dtype for name, tensor in saved.items()} == dict.fromkeys(saved, torch.float16)


@pytest.mark.parametrize("mode", ["caa'", "caa'b", "caa'bb'"])
def test_grids_of_every_analogy_that_may_be_asked_are_those_of_apply(encoded, tmp_path, monkeypatch, mode):
    monkeypatch.chdir(copy_with(encoded, tmp_path, query_mode=mode, grid_analogies=10))
    encode.main(in_process)
    data = Encoded.load(Path("data/encoded"))
    assert data.pool == 10 and 10 < len(data.grids) == json.loads(Path("metrics/encode.json").read_text())["grids"]
    pairs = {row["id"]: row for row in read_table(Path("data/pairs"), PAIR).to_pylist()}
    encoder, rule = load_encoder(data.manifest["params"]["encoder"]), CanvasRule(Size(32, 32))

    def picture(pair, side):
        return fit_image(Image.open(io.BytesIO(pairs[pair][side])).convert("RGB"), Size(32, 32), "crop")[0]

    sampler = AnalogySampler(load_train_pairs(Path("data/analogies")), 5, 4, 1.0, pool=data.pool)
    listed = [row for row in read_table(Path("data/analogies"), ANALOGY).to_pylist() if row["split"] == "test"]
    asked = [(d.exemplar, d.query) for step in range(3) for d in sampler.batch(step)]
    asked += [(other_exemplar(row, listed), row["query"]) for row in listed]
    assert len(listed) > 1
    for exemplar, query in asked:
        found = data.grid_batch([Triple(exemplar, query, "")]).query_BQ
        shown = Exemplar.of(picture(exemplar, "before"), picture(exemplar, "after"), rule)
        expected = query_of(encoder, mode, Canvas.of(shown, [picture(query, "before")], rule))
        assert torch.equal(found, expected.half().float())


def test_grids_are_asked_for_exactly_where_the_mode_looks_at_them(encoded, tmp_path, monkeypatch):
    monkeypatch.chdir(copy_with(encoded, tmp_path))
    for mode, analogies, words in (("caa'b", 0, "looks at grids; set it to how many"), ("ca'-ca", 3, "set it to 0")):
        sections = changes(encoded / "base")
        sections["encode"] |= {"query_mode": mode, "grid_analogies": analogies}
        write_params(Path(), sections)
        with pytest.raises(SystemExit, match=words):
            encode.main(in_process)
