"""Bases load as stock pipelines, say which base they are, and refuse with a sentence what they cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lorweb.kontext.codec import decode_latents, encode_image
from lorweb.kontext.load import Base, Defaults, load_base, read_defaults, resolve
from lorweb.tiny.codec import PatchCodec
from tests.kontext_tiny import TEXT_TOKENS, drawn_image, tiny_kontext


def load(folder: Path) -> Base:
    return load_base(str(folder), torch.float32, "cpu")


def test_a_folder_loads_as_a_frozen_stock_pipeline(frozen_base: Base) -> None:
    from diffusers import FluxKontextPipeline

    assert type(frozen_base.pipeline) is FluxKontextPipeline
    parts = [getattr(frozen_base.pipeline, name) for name in ("transformer", "vae", "text_encoder", "text_encoder_2")]
    parameters = [p for part in parts for p in part.parameters()]
    assert parameters and not any(p.requires_grad for p in parameters) and not any(part.training for part in parts)
    assert (frozen_base.cell, frozen_base.latent_channels, frozen_base.dtype) == (8, 16, torch.float32)
    assert frozen_base.defaults == Defaults(TEXT_TOKENS, 1.0, 2, 32)


def test_dtype_is_as_asked(base_folder: Path) -> None:
    base = load_base(str(base_folder), torch.bfloat16, "cpu")
    assert {p.dtype for p in base.transformer.parameters()} == {torch.bfloat16}
    assert encode_image(base, [drawn_image(0, 32, 32)]).dtype == torch.bfloat16


def test_text_is_the_stock_encode_prompt(frozen_base: Base) -> None:
    text = frozen_base.text(["a hat", ""])
    prompt, pooled, _ = frozen_base.pipeline.encode_prompt("a hat", max_sequence_length=TEXT_TOKENS)
    torch.testing.assert_close(text.prompt_BTE[:1], prompt, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(text.pooled_BP[:1], pooled, atol=1e-5, rtol=1e-4)
    assert text.prompt_BTE.shape[:2] == (2, TEXT_TOKENS)
    assert not torch.allclose(text.prompt_BTE[0], text.prompt_BTE[1])
    with pytest.raises(ValueError, match="no prompt to encode"):
        frozen_base.text([])


def test_latents_are_the_stock_pipelines_own(frozen_base: Base) -> None:
    image = drawn_image(1, 48, 32)
    pixels = frozen_base.pipeline.image_processor.preprocess(image, 32, 48)
    stock = frozen_base.pipeline.prepare_latents(pixels, 1, 16, 32, 48, torch.float32, "cpu", torch.Generator())[1]
    z = encode_image(frozen_base, [image])
    assert z.shape == (1, 16, 4, 6)
    assert torch.equal(frozen_base.pipeline._pack_latents(z, 1, 16, 4, 6), stock)
    assert decode_latents(frozen_base, z)[0].size == image.size


def test_images_that_cannot_be_encoded_together_are_refused(frozen_base: Base) -> None:
    with pytest.raises(ValueError, match="must share one size"):
        encode_image(frozen_base, [drawn_image(0, 32, 32), drawn_image(0, 32, 48)])
    with pytest.raises(ValueError, match="must share one size"):
        encode_image(frozen_base, [])
    with pytest.raises(ValueError, match="40x32 px cannot be encoded; both sides must be multiples of 16"):
        encode_image(frozen_base, [drawn_image(0, 40, 32)])


def test_a_base_with_the_patch_codec_loads_and_round_trips(tmp_path: Path) -> None:
    codec = PatchCodec(latent_channels=16, refine_channels=0, refine_blocks=0)
    image = drawn_image(2, 64, 32)
    pixels = tiny_kontext().image_processor.preprocess(image, 32, 64)
    codec.fit(pixels)
    tiny_kontext(vae=codec).save_pretrained(str(tmp_path))
    base = load(tmp_path)
    assert type(base.pipeline.vae) is PatchCodec and base.cell == 8
    z = encode_image(base, [image])
    torch.testing.assert_close(z, codec.encode(pixels).latents)
    back = torch.frombuffer(bytearray(decode_latents(base, z)[0].tobytes()), dtype=torch.uint8).float()
    there = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).float()
    assert (back - there).abs().mean() < 8, "16 components of 32 patches carry most of the picture"


def test_weights_that_do_not_fit_their_config_are_refused(copy: Path) -> None:
    config = json.loads((copy / "transformer" / "config.json").read_text())
    (copy / "transformer" / "config.json").write_text(json.dumps(config | {"joint_attention_dim": 48}))
    with pytest.raises(ValueError, match=r"cannot be loaded.*must be\s+what FluxKontextPipeline"):
        load(copy)


def test_names_that_are_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give 'tiny', a diffusers folder or its URI, or a hub id"):
        resolve(str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="no base at 'tinny'"):
        resolve("tinny")


def test_the_packaged_base_loads_or_says_how_to_make_it() -> None:
    import lorweb.tiny

    if not (Path(lorweb.tiny.__file__).parent / "kontext" / "model_index.json").is_file():
        with pytest.raises(FileNotFoundError, match="run `make pretrain`"):
            resolve("tiny")
        return
    base = load_base("tiny", torch.float32, "cpu")
    side = base.defaults.quadrant
    image = drawn_image(0, side, side)
    assert type(base.pipeline.vae) is PatchCodec
    back = np.asarray(decode_latents(base, encode_image(base, [image]))[0], dtype=float)
    assert np.abs(back - np.asarray(image)).mean() < 12
    assert base.text([""]).prompt_BTE.shape[1] == base.defaults.max_sequence_length


def test_a_hub_that_cannot_be_asked_gives_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"'nobody/nothing' is no folder here.*hf auth login.*give the folder"):
        resolve("nobody/nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"steps": 3}', "it must be an object with keys among max_sequence_length"),
        ("[1]", "it must be an object"),
        ('{"quadrant": "64"}', "quadrant is '64'; it must be a positive number"),
        ('{"quadrant": 64.5}', "quadrant is 64.5"),
        ('{"guidance_scale": true}', "guidance_scale is True"),
    ],
)
def test_bad_defaults_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "lorweb.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_defaults(tmp_path)


def test_without_lorweb_json_the_defaults_are_flux_kontexts(tmp_path: Path) -> None:
    assert read_defaults(tmp_path) == Defaults(512, 2.5, 28, 512)
