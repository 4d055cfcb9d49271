"""Encode: control and target grids as whole pictures, and the dtype of what is stored."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load

from lorweb.config import parse_params
from lorweb.data.rejects import Rejected
from lorweb.data.shards import read_table
from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar
from lorweb.kontext.codec import encode_image
from lorweb.kontext.grid import Size, compose, fit_image
from lorweb.kontext.load import load_base
from lorweb.records import ANALOGY, ENCODED_IMAGE, PAIR
from lorweb.training.dataset import Encoded, Triple, load_train_pairs
from lorweb.training.sampler import AnalogySampler, other_exemplar
from pipelines import encode
from pipelines._encode_workers import stored
from pipelines._rows import in_process
from pipelines._stage import StageFailed
from tests.pipelines.encoded_project import copy_with

pytestmark = pytest.mark.slow

SIDE = Size(32, 32)


@pytest.fixture(scope="module")
def whole(encoded, tmp_path_factory):
    """The project, encoded with whole grids."""
    folder = copy_with(encoded, tmp_path_factory.mktemp("whole"), latents="grid", grid_analogies=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        encode.main(in_process)
    return folder


def test_whole_grids_are_those_of_apply(whole):
    data = Encoded.load(whole / "data/encoded")
    pairs = {row["id"]: row for row in read_table(whole / "data/pairs", PAIR).to_pylist()}
    base, rule = load_base(str(whole / "base"), torch.float32, "cpu"), CanvasRule(SIDE, latents="grid")
    assert data.composition == data.manifest["params"]["latents"] == "grid" and data.pool == 5

    def picture(pair, side):
        return fit_image(Image.open(io.BytesIO(pairs[pair][side])).convert("RGB"), SIDE, "crop")[0]

    sampler = AnalogySampler(load_train_pairs(whole / "data/analogies"), 3, 2, 1.0, pool=data.pool)
    listed = read_table(whole / "data/analogies", ANALOGY).to_pylist()
    asked = [(d.exemplar, d.query) for step in range(2) for d in sampler.batch(step)]
    rows = [row for row in listed if row["split"] == "test"]
    assert len(rows) > 1
    asked += [(row["exemplar"], row["query"]) for row in rows[:2]]
    asked += [(other_exemplar(row, rows), row["query"]) for row in rows[:2]]
    for exemplar, query in asked:
        batch = data.grid_batch([Triple(exemplar, query, "")])
        a, a2, b, b2 = (picture(name, side) for name in (exemplar, query) for side in ("before", "after"))
        control = Canvas.of(Exemplar.of(a, a2, rule), [b], rule).encode(base, rule)
        assert torch.equal(batch.y_BCHW, control.half().float())
        assert torch.equal(batch.x0_BCHW, encode_image(base, [compose(a, a2, b, b2)]).half().float())


def test_whole_grids_differ_from_composed_ones_with_a_vae_that_sees_across_seams(whole, encoded):
    data, composed = Encoded.load(whole / "data/encoded"), Encoded.load(encoded / "data/encoded")
    row = next(r for r in read_table(whole / "data/analogies", ANALOGY).to_pylist() if r["split"] == "test")
    first, second = (found.grid_batch([Triple(row["exemplar"], row["query"], "")]) for found in (data, composed))
    assert torch.equal(first.query_BQ, second.query_BQ), "the query is of single images either way"
    assert first.x0_BCHW.shape == second.x0_BCHW.shape
    assert not torch.allclose(first.x0_BCHW, second.x0_BCHW, atol=1e-3)


def test_images_then_carry_features_alone_and_what_is_not_encoded_is_named(whole):
    blob = read_table(whole / "data/encoded", ENCODED_IMAGE)["tensors"][0].as_py()
    assert set(load(blob)) == {"features"}
    data = Encoded.load(whole / "data/encoded")
    with pytest.raises(ValueError, match="no latents of single images"):
        data.latents(next(iter(data.pairs)))
    pair = next(iter(data.pairs))
    with pytest.raises(ValueError, match=r"latents are 'grid', and the grid of images .* was not encoded; run"):
        data.grid_batch([Triple(pair, pair, "")])
    sizes = json.loads((whole / "metrics/encode.json").read_text())["bytes_per_1000_analogies"]
    assert sizes["per_grid"] >= 2 * 16 * 8 * 8 and sizes["naive"] >= 2000 * sizes["per_grid"]


def test_whole_grids_need_a_finite_list(encoded, tmp_path, monkeypatch):
    monkeypatch.chdir(copy_with(encoded, tmp_path, latents="grid"))
    with pytest.raises(ValueError, match=r"latents is 'grid'.* but grid_analogies is 0; set it to how many"):
        encode.main(in_process)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("made", [torch.float32, torch.bfloat16])
def test_what_is_stored_is_the_nearest_value_of_the_dtype_bit_by_bit(dtype, made):
    tensor = (torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * 3).to(made)
    found = load(stored({"latents": tensor}, dtype))["latents"]
    kind = getattr(torch, dtype)
    assert found.dtype == kind
    assert torch.equal(found.view(torch.int16), tensor.to(kind).view(torch.int16))


def test_a_value_outside_the_range_leaves_with_a_reason():
    with pytest.raises(Rejected, match=r"latents reach 7e\+04, and float16 ends at 6.55e\+04; set encode.dtype") as why:
        stored({"latents": torch.tensor([1.0, -7e4])}, "float16")
    assert (why.value.check, why.value.value, why.value.threshold) == ("range", 7e4, 65504.0)
    assert load(stored({"latents": torch.tensor([1.0, -7e4])}, "bfloat16"))["latents"].isfinite().all()
    for bad in (float("nan"), float("inf")):
        with pytest.raises(Rejected, match="not finite numbers") as why:
            stored({"features": torch.tensor([1.0, bad])}, "bfloat16")
        assert why.value.check == "finite"


def test_the_stage_stores_in_the_dtype_and_stops_at_what_it_cannot_hold(encoded, tmp_path, monkeypatch):
    monkeypatch.chdir(copy_with(encoded, tmp_path, dtype="bfloat16"))
    encode.main(in_process)
    data, half = Encoded.load(Path("data/encoded")), Encoded.load(encoded / "data/encoded")
    assert data.latents_MChw.dtype == data.features_MD.dtype == torch.bfloat16
    torch.testing.assert_close(data.latents_MChw.float(), half.latents_MChw.float(), rtol=2**-8, atol=1e-2)
    vae = Path("base/vae/config.json")
    vae.chmod(0o644)
    vae.write_text(json.dumps(json.loads(vae.read_text()) | {"scaling_factor": 1e7}))
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace(str(encoded / "base"), "base").replace("bfloat16", "float16"))
    before = sorted(path.name for path in Path("data/encoded").iterdir())
    with pytest.raises((StageFailed, SystemExit), match=r"latents reach .* and float16 ends at"):
        encode.main(in_process)
    assert sorted(path.name for path in Path("data/encoded").iterdir()) == before, "the old data stay"


def test_an_unknown_way_is_refused(encoded):
    import yaml

    tree = yaml.safe_load((encoded / "params.yaml").read_text())
    for key in ("latents", "dtype"):
        changed = {**tree, "encode": {**tree["encode"], key: "whole"}}
        with pytest.raises(ValueError, match=rf"encode.{key}"):
            parse_params(changed, "params.yaml")


def test_the_page_shows_parameters_that_are_taken(encoded):
    import re

    import yaml

    page = (Path(__file__).parents[2] / "docs/data_latents.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    tree = yaml.safe_load((encoded / "params.yaml").read_text())
    changed = {**tree, "encode": {**tree["encode"], **yaml.safe_load(shown)["encode"]}}
    assert parse_params(changed, "params.yaml").encode.grid_analogies == 5000
    rule = CanvasRule(SIDE)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    pipe = type("Pipe", (), {"rule": rule})()
    exec(code, {"pipe": pipe})
    assert pipe.rule == CanvasRule(SIDE, latents="grid")
