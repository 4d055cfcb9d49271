"""What AnalogyPipeline takes over from the stock pipeline (the bar of steps, the dtype); bases that need no encoder."""

import io
from pathlib import Path

import pytest
import torch

from lorweb.basis import analogy, checkpoint
from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar
from lorweb.kontext.denoise import Sampling, denoise_grids
from lorweb.kontext.grid import Size
from lorweb.kontext.load import Base, load_base
from lorweb.kontext.metadata import BASIS_FILE, ModelMetadata, write_metadata
from lorweb.kontext.pipeline import AnalogyPipeline
from tests.kontext.made import A2, CONFIG, INTERNAL, A, same, save_model, train
from tests.kontext_tiny import PixelEncoder, drawn_image

RULE = CanvasRule(Size(32, 32))
B = drawn_image(2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_counts_the_steps_of_every_batch_and_can_be_switched_off(pipe: AnalogyPipeline) -> None:
    pipe.batch_size = 2
    shown = io.StringIO()
    pipe.set_progress_bar_config(file=shown, desc="denoising", mininterval=0)
    pipe(A, A2, [B, B, B], num_inference_steps=3)
    ends = [bar.split("\r")[-1] for bar in shown.getvalue().strip("\n").split("\n")]
    assert len(ends) == 2 and all("denoising" in end and "3/3" in end for end in ends)
    shown = io.StringIO()
    pipe.set_progress_bar_config(file=shown, disable=True)
    pipe(A, A2, B)
    assert shown.getvalue() == ""


@pytest.mark.parametrize(("stream", "seen"), [(Terminal, True), (io.StringIO, False)])
def test_a_loaded_model_shows_its_bar_on_a_terminal_and_not_in_a_log(
    pipe: AnalogyPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], seen: bool
) -> None:
    loaded = AnalogyPipeline.from_pretrained(
        save_model(pipe.base, tmp_path / "model"), encoder=PixelEncoder(), device="cpu"
    )
    shown = stream()
    monkeypatch.setattr("sys.stderr", shown)
    loaded(A, A2, B)
    assert ("3/3" in shown.getvalue()) is seen


def test_a_base_by_itself_is_quiet(pipe: AnalogyPipeline, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    pipe(A, A2, B)
    assert capfd.readouterr().err == ""


def test_the_dtype_is_as_asked_and_near_float32(pipe: AnalogyPipeline, tmp_path: Path) -> None:
    folder = save_model(pipe.base, tmp_path / "model")
    mixes = []
    for dtype in (None, torch.float32, torch.bfloat16):
        loaded = AnalogyPipeline.from_pretrained(folder, encoder=PixelEncoder(), device="cpu", dtype=dtype)
        assert loaded.base.pipeline.vae.dtype == (dtype or torch.float32)
        picture = loaded(A, A2, B, guidance_scale=1.0, num_inference_steps=2)
        assert same(picture.images[0], pipe(A, A2, B).images[0], by=0 if dtype != torch.bfloat16 else 60)
        mixes.append(picture.mix_BLN)
    assert all(torch.equal(mix, mixes[0]) for mix in mixes), "the basis stays float32"


def test_internal_queries_need_no_encoder_and_give_no_mix(base: Base, frozen_base: Base, tmp_path: Path) -> None:
    train(base, INTERNAL)
    pipe = AnalogyPipeline(base, None, INTERNAL, RULE)
    output = pipe(A, A2, [B, drawn_image(3)], seed=[4, 5])
    assert output.mix_BLN is None
    canvas = Canvas.of(Exemplar.of(A, A2, RULE), [B], RULE)
    with analogy(base.transformer):
        z = denoise_grids(base, canvas.encode(base, RULE), base.text([""]), [4], Sampling(2, 1.0))
    assert same(output.images[0], canvas.decode(base, z, RULE)[0], by=1)
    assert not same(output.images[0], pipe(A, drawn_image(9), B, seed=4).images[0], by=2), "a' matters"
    z = denoise_grids(frozen_base, canvas.encode(base, RULE), base.text([""]), [4], Sampling(2, 1.0))
    bare = canvas.decode(base, z, RULE)[0]
    assert same(pipe(A, A2, B, seed=4, strength=0.0).images[0], bare, by=1) and not same(output.images[0], bare, by=3)
    with pytest.raises(ValueError, match="internal queries: every layer asks at every step"):
        pipe.mix(A, A2, B)
    with pytest.raises(ValueError, match="this basis has internal queries"):
        pipe(A, A2, B, mix=torch.zeros(20, 3))
    pipe.fold = True
    with pytest.raises(ValueError, match="cannot be folded; set fold = False"):
        pipe(A, A2, B)


def test_a_saved_model_with_internal_queries_is_applied_where_its_encoder_is_not(base: Base, tmp_path: Path) -> None:
    train(base, INTERNAL)
    checkpoint.save(base.transformer, tmp_path / BASIS_FILE, {})
    write_metadata(tmp_path, ModelMetadata(str(base.folder), base.revision, "clip:/gone", "", 32, 2, 1.0, {}))
    loaded = AnalogyPipeline.from_pretrained(tmp_path, device="cpu")
    assert same(loaded(A, A2, B).images[0], AnalogyPipeline(base, None, INTERNAL, RULE)(A, A2, B).images[0])


def test_an_external_basis_needs_its_encoder(base_folder: Path) -> None:
    base = load_base(str(base_folder), torch.float32, "cpu")
    train(base)
    with pytest.raises(ValueError, match="asks with an encoder's features; give the encoder of its training"):
        AnalogyPipeline(base, None, CONFIG, RULE)
