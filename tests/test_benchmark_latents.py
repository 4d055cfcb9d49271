"""The comparison of whole and composed grids measures what it says."""

import json

import pytest
import torch

from lorweb.kontext.grid import Size
from tests.benchmark_cases import module, put_on_the_path
from tests.kontext_tiny import tiny_vae


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_the_path(monkeypatch)


def test_distances_are_counted_from_the_nearest_seam():
    found = module("grid_latents").from_seam(Size(2, 3))
    assert found.tolist() == [
        [1, 1, 0, 0, 1, 1],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 1],
    ]


def test_a_codec_of_patches_sees_no_seam_and_a_vae_does(tmp_path):
    made, script = tmp_path / "rows.json", module("grid_latents")
    tiny_vae().save_pretrained(tmp_path / "mine")
    page = tmp_path / "page.md"
    page.write_text("<!-- grid_latents -->\n<!-- /grid_latents -->\n")
    script.main(
        ["--side", "32", "--count", "2", "--vae", str(tmp_path / "mine"), "--json", str(made), "--into", str(page)]
    )
    rows = {row["name"]: row for row in json.loads(made.read_text())}
    packaged, mine = rows["packaged codec"], rows["mine"]
    assert len(rows) == 4 and script.markdown(list(rows.values())) in page.read_text()
    assert packaged["ratio"] < 1e-5 and packaged["share_different"] == 0 and packaged["pixels"]["between"] > 0
    assert mine["low"] <= mine["ratio"] <= mine["high"] and mine["ratio"] > 1e-3 and mine["share_different"] > 0.5
    assert all(row["bytes_per_1000"] == {"quadrant": 2_048_000, "grid": 4_096_000} for row in rows.values())


def test_the_ratio_is_the_norm_of_the_difference_over_the_norm():
    """Of one analogy, against the two encodings taken by hand."""
    script, vae = module("grid_latents"), tiny_vae()
    (images,) = script.analogies(32, 1)
    found = script.measure("mine", vae, [images])
    parts = [script.encoded(vae, image) for image in images]
    composed = torch.cat([torch.cat(parts[:2], -1), torch.cat(parts[2:], -1)], -2)
    whole = script.encoded(vae, script.compose(*images))
    assert found["ratio"] == pytest.approx(float((whole - composed).norm() / composed.norm()), rel=1e-5)
    seam = torch.zeros(8, 8)
    seam[3:5], seam[:, 3:5] = 1, 1
    at_seam = float(((whole - composed) * seam).norm() / (composed * seam).norm())
    assert found["by_distance"]["0"] == pytest.approx(at_seam, rel=1e-5)
    assert set(found["by_distance"]) == {"0", "1", "2"}
