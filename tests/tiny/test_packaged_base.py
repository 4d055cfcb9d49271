"""The committed base: what its metrics claim is measured again, on subjects it never saw, by the stock pipeline."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import lorweb.tiny
from lorweb.data.catalogue import load_catalogue
from lorweb.tiny.codec import PatchCodec
from lorweb.tiny.corpus import CorpusSpec, make_corpus, read_corpus, training_tasks
from lorweb.tiny.export import HeldOut, codec_metrics, edit_metrics
from lorweb.tiny.fit_codec import to_pixels

pytestmark = pytest.mark.slow

FOLDER = Path(lorweb.tiny.__file__).parent / "kontext"
CLAIMS = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    """One pair of every training task, made here by the editor."""
    folder = tmp_path_factory.mktemp("held-out")
    make_corpus(folder, CorpusSpec(1, 1, 64, held_out=True), 1)
    return HeldOut(**read_corpus(folder), tasks=training_tasks(load_catalogue()))


def test_it_is_small_enough_to_be_committed():
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert 1e6 < size < 25e6


def test_it_belongs_to_this_catalogue():
    assert CLAIMS["catalogue_sha256"] == load_catalogue().sha256


def test_the_claims_reach_the_goals():
    assert CLAIMS["codec"]["psnr"] >= 24
    assert CLAIMS["edits"]["ratio"] <= 0.5


def test_reconstructions_are_as_claimed(held_out):
    codec = PatchCodec.from_pretrained(str(FOLDER / "vae"))
    found = codec_metrics(codec, to_pixels(torch.cat([held_out.before, held_out.after])))
    assert found["psnr"] >= 24
    assert found["psnr"] == pytest.approx(CLAIMS["codec"]["psnr"], abs=1.0)
    assert found["psnr"] > found["psnr_linear"], "the decoder's refinement makes images worse"


def test_instruction_edits_are_as_claimed(held_out, tmp_path):
    found = edit_metrics(FOLDER, held_out, 1, tmp_path / "sheet.png")
    assert len(found["tasks"]) > 60
    assert found["ratio"] <= 0.5
    assert found["ratio"] == pytest.approx(CLAIMS["edits"]["ratio"], abs=0.12)
    assert Image.open(tmp_path / "sheet.png").width == 12 * 64


def test_a_stock_pipeline_loads_and_edits_with_it():
    from diffusers import FluxKontextPipeline

    pipe = FluxKontextPipeline.from_pretrained(str(FOLDER), vae=PatchCodec.from_pretrained(str(FOLDER / "vae")))
    pipe.set_progress_bar_config(disable=True)
    from skimage import data

    image = Image.fromarray(data.coffee()).resize((64, 64), Image.Resampling.LANCZOS)
    night = pipe(
        image=image,
        prompt="turn the day into night",
        height=64,
        width=64,
        max_area=64 * 64,
        _auto_resize=False,
        guidance_scale=1.0,
        num_inference_steps=8,
        max_sequence_length=12,
        generator=torch.Generator().manual_seed(0),
    ).images[0]
    assert night.size == (64, 64)
    luma = [sum(i.convert("L").tobytes()) / 64**2 for i in (image, night)]
    assert luma[1] < 0.6 * luma[0], luma
