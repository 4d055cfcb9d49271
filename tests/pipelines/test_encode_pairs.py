"""Encode: images in random views, and pairs made of other pairs' images."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from lorweb.basis.encoders import load_encoder
from lorweb.basis.query import combine
from lorweb.data.shards import read_table, write_rows
from lorweb.kontext.codec import encode_image
from lorweb.kontext.geometry import ViewRule, draw_view
from lorweb.kontext.grid import Size, compose_latents, fit_image
from lorweb.kontext.load import load_base
from lorweb.records import DERIVED, PAIR
from lorweb.training.dataset import Encoded, Triple, load_train_pairs
from lorweb.training.sampler import AnalogySampler
from pipelines import assemble, encode
from pipelines._rows import in_process
from tests.pipelines.encoded_project import changes, copy_with
from tests.pipelines.projects import write_params

pytestmark = pytest.mark.slow


def test_training_images_are_encoded_in_random_views_too(encoded, tmp_path, monkeypatch):
    views = {"count": 2, "smallest": 0.5, "flips": 0.5}
    monkeypatch.chdir(copy_with(encoded, tmp_path, views=views))
    encode.main(in_process)
    data, plain = Encoded.load(Path("data/encoded")), Encoded.load(encoded / "data/encoded")
    trained = [row.pair for row in load_train_pairs(Path("data/analogies"))]
    assert data.views == 2 and set(data.viewed) == {(pair, view) for pair in trained for view in (1, 2)}
    assert 0 < len(trained) < len(data.pairs) and data.pairs.keys() == plain.pairs.keys()
    pairs = {row["id"]: row for row in read_table(Path("data/pairs"), PAIR).to_pylist()}
    base, encoder = (
        load_base(str(encoded / "base"), torch.float32, "cpu"),
        load_encoder(plain.manifest["params"]["encoder"]),
    )
    exemplar, query = next((a, b) for a in trained for b in trained if a != b)
    for view in (0, 1, 2):
        batch = data.grid_batch([Triple(exemplar, query, "", view)])
        quadrants, features = [], []
        for pair, side in ((exemplar, "before"), (exemplar, "after"), (query, "before"), (query, "after")):
            image = Image.open(io.BytesIO(pairs[pair][side])).convert("RGB")
            shown = draw_view(ViewRule(0.5, 0.5), view).apply(image) if view else image
            shown = fit_image(shown, Size(32, 32), "crop")[0]
            quadrants.append(encode_image(base, [shown])[0].half().float())
            features.append(encoder([shown]).half().float())
        assert torch.equal(batch.x0_BCHW[0], compose_latents(*quadrants))
        found = dict(zip(("a", "a2", "b"), features[:3], strict=True))
        assert torch.equal(batch.query_BQ, combine(data.query_mode, found))
    grids = [data.grid_batch([Triple(exemplar, query, "", view)]).x0_BCHW for view in (0, 1, 2)]
    assert not torch.equal(grids[0], grids[1]) and not torch.equal(grids[1], grids[2])
    assert torch.equal(grids[0], plain.grid_batch([Triple(exemplar, query, "")]).x0_BCHW)


def test_derived_pairs_are_the_images_of_others(encoded, tmp_path, monkeypatch):
    folder = copy_with(encoded, tmp_path)
    monkeypatch.chdir(folder)
    sections = changes(encoded / "base")
    sections["assemble"] |= {"inverse": ["*"]}
    write_params(folder, sections)
    assemble.main()
    derived = read_table(Path("data/analogies/derived"), DERIVED).to_pylist()
    one, other = derived[0]["before_pair"], derived[-1]["before_pair"]
    sides = {"before_pair": one, "before_side": "after", "after_pair": other, "after_side": "after"}
    derived.append({"pair": "0" * 16, **sides})  # as a composed task has them
    write_rows(derived, Path("data/analogies/derived"), DERIVED)
    encode.main(in_process)
    data = Encoded.load(Path("data/encoded"))
    assert {row["after_side"] for row in derived} == {"before", "after"}
    for row in derived:
        sides = {"before": 0, "after": 1}
        expected = [data.latents(row[f"{side}_pair"])[sides[row[f"{side}_side"]]] for side in ("before", "after")]
        assert all(torch.equal(x, y) for x, y in zip(data.latents(row["pair"]), expected, strict=True))
    assert len(data.images) == len(Encoded.load(encoded / "data/encoded").images), "no image is encoded twice"
    drawn = AnalogySampler(load_train_pairs(Path("data/analogies")), 0, 50, 1.0).batch(0)
    assert {d.exemplar for d in drawn} & {row["pair"] for row in derived}
    data.grid_batch([Triple(d.exemplar, d.query, d.instruction) for d in drawn])


def test_views_and_grids_exclude_each_other(encoded, tmp_path, monkeypatch):
    views = {"count": 1, "smallest": 0.5, "flips": 0.0}
    monkeypatch.chdir(copy_with(encoded, tmp_path, query_mode="caa'b", grid_analogies=3, views=views))
    with pytest.raises(ValueError, match=r"encode: views.count 1 and grid_analogies 3 are both set"):
        encode.main(in_process)
