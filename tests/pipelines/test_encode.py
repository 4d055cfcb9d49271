"""Encode: each image and each text once, by the same functions that `apply` calls, in any batching the same bytes."""

import io
import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load

from lorweb.basis.encoders import load_encoder
from lorweb.data.manifest import Manifest, read_manifest, write_manifest
from lorweb.data.shards import read_table, write_rows
from lorweb.kontext.codec import encode_image
from lorweb.kontext.grid import Size, fit_image
from lorweb.kontext.load import load_base
from lorweb.records import ANALOGY, ENCODED_IMAGE, ENCODED_TEXT, PAIR, TRAIN_PAIR
from lorweb.training.dataset import Encoded, Triple
from pipelines import assemble, encode
from pipelines._rows import in_process
from tests.kontext_tiny import save_tiny_kontext
from tests.pipelines.projects import contents, write_params


@pytest.fixture(scope="module")
def encoded(generated, tmp_path_factory):
    """A project up to data/encoded, on a random base of real architecture."""
    folder = tmp_path_factory.mktemp("encoded") / "project"
    shutil.copytree(generated, folder)
    base = save_tiny_kontext(folder / "base")
    rows = read_table(folder / "data/candidates", PAIR).to_pylist()
    tasks = sorted({row["task"] for row in rows})[:2]
    rows = [row for row in rows if row["task"] in tasks]
    write_rows(rows, folder / "data/pairs", PAIR)
    write_manifest(folder / "data/pairs", Manifest(len(rows), {}, {}, {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(folder, changes(base))
        assemble.main()
        encode.main(in_process)
    return folder


def changes(base, **pool):
    section = {"base": str(base), "quadrant": 32, "pool": pool}
    return {"encode": section, "assemble": {"train_subjects": [], "test_subjects": 0.4, "val_subjects": 0.2}}


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
