"""CLIP and SigLIP towers from a folder, against the outputs of transformers."""

import shutil

import pytest
import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from lorweb.basis.encoders import load_encoder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=12,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_clip_gives_the_projected_embedding_unnormalised(clip_folder, photos):
    encoder = load_encoder(f"clip:{clip_folder}")
    model = CLIPVisionModelWithProjection.from_pretrained(clip_folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)(images=photos, return_tensors="pt")
    with torch.no_grad():
        expected = model.visual_projection(model.vision_model(**pixels).pooler_output)
    out = encoder(photos)
    assert encoder.dim == 12 and out.shape == (3, 12) and not out.requires_grad
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)
    assert (out.norm(dim=1) - 1).abs().min() > 1e-3


def test_revision_follows_weights_and_preprocessing_not_the_folder(clip_folder, tmp_path):
    def saved(change: float, mean: float) -> str:
        folder = tmp_path / f"{change}-{mean}"
        model = CLIPVisionModelWithProjection.from_pretrained(clip_folder)
        with torch.no_grad():
            model.visual_projection.weight[0, 0] += change
        model.save_pretrained(folder)
        processor = CLIPImageProcessorPil.from_pretrained(clip_folder)
        processor.image_mean = [mean] * 3
        processor.save_pretrained(folder)
        return load_encoder(f"clip:{folder}").revision

    found = [saved(0.0, 0.5), saved(0.1, 0.5), saved(0.0, 0.4)]
    assert len(set(found)) == 3
    (tmp_path / "copy").symlink_to(tmp_path / "0.0-0.5")
    assert load_encoder(f"clip:{tmp_path / 'copy'}").revision == found[0]


def test_siglip_gives_the_pooled_embedding(tmp_path, photos):
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    SiglipVisionModel(config).save_pretrained(tmp_path)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    encoder = load_encoder(f"siglip2:{tmp_path}")
    pixels = SiglipImageProcessorPil.from_pretrained(tmp_path)(images=photos, return_tensors="pt")
    with torch.no_grad():
        expected = SiglipVisionModel.from_pretrained(tmp_path).eval()(**pixels).pooler_output
    assert encoder.dim == 16
    torch.testing.assert_close(encoder(photos), expected, atol=1e-6, rtol=1e-5)


def test_patches_are_the_mean_of_the_patch_tokens_without_the_class_token(clip_folder, photos):
    encoder = load_encoder(f"clip:{clip_folder}")
    model = CLIPVisionModelWithProjection.from_pretrained(clip_folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)(images=photos, return_tensors="pt")
    with torch.no_grad():
        states = model.vision_model(**pixels, output_hidden_states=True).hidden_states
    assert len(states) == 3 and states[-1].shape == (3, 17, 16), "16 patches and the class token"
    last, both = states[-1][:, 1:].mean(1), (states[-1][:, 1:] + states[-2][:, 1:]).mean(1) / 2
    assert encoder.patch_dim == 16
    torch.testing.assert_close(encoder.patches(photos, (-1,)), last, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(encoder.patches(photos, (-2, -1)), both, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(last, both, atol=1e-3)
    with pytest.raises(ValueError, match="has 2 layers, but hidden state -16 is asked for"):
        encoder.patches(photos, (-16, -8, -1))


def test_padding_of_a_variable_resolution_tower_is_no_patch(tmp_path, photos):
    from transformers import Siglip2ImageProcessorPil, Siglip2VisionConfig, Siglip2VisionModel

    torch.manual_seed(0)
    config = Siglip2VisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_patches=16, patch_size=8
    )
    Siglip2VisionModel(config).save_pretrained(tmp_path)
    Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(tmp_path)
    encoder = load_encoder(f"siglip2:{tmp_path}")
    wide = photos[0].resize((96, 32))
    inputs = Siglip2ImageProcessorPil.from_pretrained(tmp_path)(images=[wide], return_tensors="pt")
    valid = int(inputs["pixel_attention_mask"].sum())
    assert valid < inputs["pixel_attention_mask"].numel(), "nothing was padded"
    with torch.no_grad():
        model = Siglip2VisionModel.from_pretrained(tmp_path).eval()
        expected = model(**inputs, output_hidden_states=True).hidden_states[-1][:, :valid].mean(1)
    torch.testing.assert_close(encoder.patches([wide], (-1,)), expected, atol=1e-6, rtol=1e-5)
    assert encoder([wide]).shape == (1, 16)


def test_a_clip_folder_is_no_siglip(clip_folder):
    with pytest.raises(ValueError, match="not SigLIP"):
        load_encoder(f"siglip2:{clip_folder}")


def test_a_folder_that_lacks_weights_is_refused_and_nothing_is_drawn_at_random(clip_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(clip_folder, tmp_path / "cut")
    weights = load_file(tmp_path / "cut" / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "cut" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"has no weights 'visual_projection.weight' \(1 are missing\)"):
        load_encoder(f"clip:{tmp_path / 'cut'}")
