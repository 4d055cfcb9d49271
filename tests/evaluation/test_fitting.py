"""A model meets only data that were encoded as it was trained, also where every width is equal."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorweb.basis.checkpoint import load, save_official
from lorweb.evaluation.fitting import check_fits, misfits, trained_with
from lorweb.evaluation.official import checked_official
from lorweb.kontext.load import load_base
from lorweb.kontext.metadata import read_metadata, write_metadata
from tests.model_tiny import save_model, save_parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_parts(tmp_path_factory.mktemp("parts"))


def test_what_nobody_knows_is_not_compared_and_all_else_is(parts, tmp_path) -> None:
    folder = save_model(parts, tmp_path / "model", mode="ca'-ca")
    trained = trained_with(folder)
    assert set(trained) == {"base_revision", "encoder_revision", "query_mode", "quadrant", "latents"}
    assert misfits(trained, trained) == {} == misfits(trained, {})
    assert misfits(trained, trained | {"query_mode": "ca'-ca+cb"}) == {"query_mode": ("ca'-ca", "ca'-ca+cb")}
    with pytest.raises(ValueError, match=r"m was trained with quadrant 32, but d has quadrant 64; set encode.quadrant"):
        check_fits("m", trained, "d", trained | {"quadrant": 64})
    write_metadata(folder, replace(read_metadata(folder), encoder_revision=""))
    assert misfits(trained_with(folder), trained) == {}


def test_a_published_checkpoint_of_another_encoder_is_refused(parts, tmp_path) -> None:
    base = load_base(str(parts / "kontext"), torch.float32, "cpu")
    load(base.transformer, save_model(parts, tmp_path / "model") / "basis.safetensors")
    clip = "openai/clip-vit-large-patch14"
    for named, encoded, fits in (
        (clip, f"clip:{clip}", True),
        (clip, "clip:/models/clip-l", True),
        (clip, "siglip2:google/siglip2-base-patch16-224", False),
        (clip, f"clip:{clip}-336", False),
        (clip, "packaged", False),
        (None, "siglip2:google/siglip2-base-patch16-224", True),
    ):
        save_official(base.transformer, tmp_path / "published", encoder=named)
        facts = {"query_mode": "cat-aa'b", "encoder": encoded}
        if fits:
            assert checked_official(str(tmp_path / "published"), facts)
        else:
            with pytest.raises(
                ValueError, match=r"is asked with encoder clip:openai/.*, but the data are encoded with"
            ):
                checked_official(str(tmp_path / "published"), facts)
