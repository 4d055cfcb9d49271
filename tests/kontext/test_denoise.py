"""Our loop against a stock FluxKontextPipeline call, which is the oracle for everything at once."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lorweb.kontext.codec import decode_latents, encode_image
from lorweb.kontext.denoise import Sampling, denoise_grids, initial_noise, schedule
from lorweb.kontext.grid import Size, control_grid
from lorweb.kontext.load import Base
from lorweb.kontext.tokens import pack
from tests.kontext_tiny import TEXT_TOKENS, drawn_image


def grids(count: int, width: int = 32, height: int = 32) -> list[Image.Image]:
    return [control_grid(*(drawn_image(3 * i + j, width, height) for j in range(3))) for i in range(count)]


def stock(base: Base, image: Image.Image, prompt: str, seed: int, sampling: Sampling, output: str = "pil") -> Any:
    return base.pipeline(
        image=image,
        prompt=prompt,
        height=image.height,
        width=image.width,
        max_area=image.height * image.width,
        _auto_resize=False,
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance,
        generator=torch.Generator().manual_seed(seed),
        max_sequence_length=TEXT_TOKENS,
        output_type=output,
    ).images[0]


@pytest.mark.parametrize(("width", "height", "steps"), [(32, 32, 4), (48, 32, 1), (32, 64, 3)])
def test_equal_to_the_stock_pipeline_within_one_step_of_a_byte(
    frozen_base: Base, width: int, height: int, steps: int
) -> None:
    sampling = Sampling(steps, 2.5)
    images, seeds, prompts = grids(2, width, height), [5, 11], ["make it red", "a hat"]
    z = denoise_grids(frozen_base, encode_image(frozen_base, images), frozen_base.text(prompts), seeds, sampling)
    for ours, image, prompt, seed in zip(decode_latents(frozen_base, z), images, prompts, seeds, strict=True):
        theirs = stock(frozen_base, image, prompt, seed, sampling)
        assert ours.size == theirs.size == image.size
        difference = np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int))
        assert difference.max() <= 1
        assert np.asarray(theirs).std() > 10, "the comparison is not of two blank images"


def test_latents_equal_the_stock_pipelines_and_notice_another_control_grid(frozen_base: Base) -> None:
    sampling, images, text = Sampling(4, 2.5), grids(2), frozen_base.text(["a hat"])
    z = denoise_grids(frozen_base, encode_image(frozen_base, images), text, [5, 5], sampling)
    theirs = [stock(frozen_base, image, "a hat", 5, sampling, "latent") for image in images]
    torch.testing.assert_close(pack(z), torch.stack(theirs), atol=1e-4, rtol=1e-4)
    assert (theirs[0] - theirs[1]).abs().max() > 0.01, "the tolerance is far below what the control grid does"


def test_the_schedule_runs_from_one_to_zero_and_shifts_with_the_token_count(frozen_base: Base) -> None:
    config = frozen_base.pipeline.scheduler.config
    sigmas = [schedule(config, 28, tokens, torch.device("cpu")).sigmas.numpy() for tokens in (256, 4096)]
    linear = np.linspace(1, 1 / 28, 28)
    for mu, found in zip((0.5, 1.15), sigmas, strict=True):
        expected = np.exp(mu) / (np.exp(mu) + (1 / linear - 1))
        np.testing.assert_allclose(found, [*expected, 0.0], atol=1e-6)


def test_a_base_without_dynamic_shift_takes_the_sigmas_as_they_are() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    config = FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False).config
    found = schedule(config, 4, 64, torch.device("cpu"))
    np.testing.assert_allclose(found.sigmas.numpy(), [1, 0.75, 0.5, 0.25, 0], atol=1e-6)
    np.testing.assert_allclose(found.timesteps.numpy(), [1000, 750, 500, 250], atol=1e-3)


def test_a_row_depends_on_its_own_seed_whatever_its_batch(frozen_base: Base) -> None:
    control, text, sampling = encode_image(frozen_base, grids(3)), frozen_base.text([""]), Sampling(2, 1.0)
    together = denoise_grids(frozen_base, control, text, [1, 2, 1], sampling)
    alone = denoise_grids(frozen_base, control[1:2], text, [2], sampling)
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)
    noise = initial_noise(frozen_base, Size(8, 8), [1, 2, 1])
    assert torch.equal(noise[0], noise[2]) and not torch.equal(noise[0], noise[1])
    again = denoise_grids(frozen_base, control, text, [1, 2, 1], sampling)
    assert torch.equal(again, together), "the same call gives the same bits"


def test_the_watch_sees_every_step(frozen_base: Base) -> None:
    seen: list[tuple[int, int]] = []
    sampling = Sampling(3, 1.0, lambda step: seen.append((step.done, step.steps)))
    denoise_grids(frozen_base, encode_image(frozen_base, grids(1)), frozen_base.text([""]), [0], sampling)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_counts_that_do_not_fit_are_refused(frozen_base: Base) -> None:
    control, sampling = encode_image(frozen_base, grids(2)), Sampling(1, 1.0)
    with pytest.raises(ValueError, match="1 seeds for 2 grids"):
        denoise_grids(frozen_base, control, frozen_base.text([""]), [0], sampling)
    with pytest.raises(ValueError, match="3 prompts for 2 images"):
        denoise_grids(frozen_base, control, frozen_base.text(["", "a", "b"]), [0, 1], sampling)
    for steps in (0, 1001, 10**30, 1.5):
        with pytest.raises(ValueError, match=r"steps is .*; it must be a whole number from 1 to 1000"):
            Sampling(steps, 1.0)  # type: ignore[arg-type]


def test_a_peft_lora_on_the_base_is_denoised_too(base: Base) -> None:
    from peft import LoraConfig

    control, text, sampling = encode_image(base, grids(1)), base.text([""]), Sampling(2, 1.0)
    before = denoise_grids(base, control, text, [0], sampling)
    base.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "proj_mlp"], init_lora_weights=True))
    torch.testing.assert_close(denoise_grids(base, control, text, [0], sampling), before, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        touched = [p.fill_(0.5) for name, p in base.transformer.named_parameters() if "lora_B" in name]
    assert touched
    assert not torch.allclose(denoise_grids(base, control, text, [0], sampling), before, atol=1e-3)


def test_bfloat16_runs_and_stays_near_float32(base_folder: object, frozen_base: Base) -> None:
    from lorweb.kontext.load import load_base

    half = load_base(str(base_folder), torch.bfloat16, "cpu")
    sampling = Sampling(2, 1.0)
    control = encode_image(frozen_base, grids(1))
    full = denoise_grids(frozen_base, control, frozen_base.text([""]), [3], sampling)
    found = denoise_grids(half, control, half.text([""]), [3], sampling)
    assert found.dtype == torch.bfloat16
    assert ((found.float() - full).norm() / full.norm()).item() < 0.1


@pytest.mark.parametrize("guidance", [-1.0, 100.5, float("nan"), float("inf"), 1e300])
def test_a_guidance_that_is_no_number_is_refused(guidance: float) -> None:
    with pytest.raises(ValueError, match=r"the guidance scale is .* it must be a number from 0 to 100"):
        Sampling(2, guidance)
