"""Model folders: what is saved is applied the same, and only in the surroundings of its training."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from lorweb.basis import add_basis, checkpoint
from lorweb.kontext.canvas import CanvasRule
from lorweb.kontext.grid import Size
from lorweb.kontext.load import Base
from lorweb.kontext.metadata import BASIS_FILE, METADATA_FILE, ModelMetadata, write_metadata
from lorweb.kontext.pipeline import AnalogyPipeline
from tests.kontext.made import A2, CONFIG, A, same, save_model
from tests.kontext_tiny import PixelEncoder, drawn_image


def test_a_saved_model_loads_and_paints_the_same(pipe: AnalogyPipeline, tmp_path: Path) -> None:
    folder, b = save_model(pipe.base, tmp_path / "model"), drawn_image(2)
    for path in (folder, folder / BASIS_FILE):
        loaded = AnalogyPipeline.from_pretrained(path, encoder=PixelEncoder(), device="cpu")
        assert (loaded.steps, loaded.guidance, loaded.rule.quadrant) == (3, 1.5, Size(32, 32))
        expected = pipe(A, A2, b, num_inference_steps=3, guidance_scale=1.5).images[0]
        assert same(loaded(A, A2, b).images[0], expected, by=1)


def tiny_clip(folder: Path) -> Path:
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPVisionConfig(**sizes, projection_dim=8, image_size=32, patch_size=16)
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_the_encoder_that_the_metadata_names_is_loaded_and_may_move(base: Base, tmp_path: Path) -> None:
    from lorweb.basis.encoders import load_encoder

    encoder = load_encoder(f"clip:{tiny_clip(tmp_path / 'clip')}")
    config = CONFIG.model_copy(update={"query_dim": 3 * encoder.dim})
    add_basis(base.transformer, config, seed=0)
    model, b = tmp_path / "model", drawn_image(2)
    model.mkdir()
    checkpoint.save(base.transformer, model / BASIS_FILE, {})
    names = (str(base.folder), base.revision, encoder.name, encoder.revision)
    write_metadata(model, ModelMetadata(*names, 32, 2, 1.0, {}))
    loaded = AnalogyPipeline.from_pretrained(model, device="cpu")
    e_LN = loaded.mix(A, A2, b)
    torch.testing.assert_close(e_LN, AnalogyPipeline(base, encoder, config, CanvasRule(Size(32, 32))).mix(A, A2, b))
    shutil.move(tmp_path / "clip", tmp_path / "moved")
    moved = load_encoder(f"clip:{tmp_path / 'moved'}")
    again = AnalogyPipeline.from_pretrained(model, base=None, encoder=moved, device="cpu")
    torch.testing.assert_close(again.mix(A, A2, b), e_LN)


@pytest.mark.slow
def test_models_that_do_not_fit_their_surroundings_are_refused(pipe: AnalogyPipeline, tmp_path: Path) -> None:
    folder, encoder = save_model(pipe.base, tmp_path / "model"), PixelEncoder()
    with pytest.raises(FileNotFoundError, match="no basis at"):
        AnalogyPipeline.from_pretrained(tmp_path / "absent", encoder=encoder)
    metadata = json.loads((folder / METADATA_FILE).read_text())
    (folder / METADATA_FILE).write_text(json.dumps(metadata | {"base_revision": "other"}))
    with pytest.raises(ValueError, match="at revision other, but"):
        AnalogyPipeline.from_pretrained(folder, encoder=encoder, device="cpu")
    (folder / METADATA_FILE).write_text(json.dumps(metadata | {"encoder_revision": "2"}))
    with pytest.raises(ValueError, match=r"trained with encoder pixels-2x2 \(2\), but got\s+pixels-2x2 \(1\)"):
        AnalogyPipeline.from_pretrained(folder, encoder=encoder, device="cpu")
