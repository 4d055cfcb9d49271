"""The patch codec: its closed form against numpy, its locality, and what its refinement may change."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorweb.kontext.grid import compose_latents
from lorweb.tiny.codec import PATCH, PatchCodec
from lorweb.tiny.fit_codec import FeatureDistance

REFINE = 32


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Smooth random images [24, 3, 32, 32] in [-1, 1], so that few components explain much."""
    small = torch.rand(24, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(small, size=32, mode="bicubic", align_corners=False).clamp(-1, 1)


@pytest.fixture(scope="module")
def codec(images: torch.Tensor) -> PatchCodec:
    torch.manual_seed(0)
    codec = PatchCodec(latent_channels=16, refine_channels=REFINE, refine_blocks=1)
    codec.fit(images)
    return codec.eval()


def patches(images: torch.Tensor) -> np.ndarray:
    """[M, P] in the order of `pixel_unshuffle`: channel, row, column."""
    B, _, H, W = images.shape
    cut = images.numpy().reshape(B, 3, H // PATCH, PATCH, W // PATCH, PATCH)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, 3 * PATCH * PATCH).astype(np.float64)


def test_the_linear_part_is_the_projection_on_the_first_components(codec, images):
    x_MP = patches(images)
    centred = x_MP - x_MP.mean(0)
    _, _, vectors = np.linalg.svd(centred, full_matrices=False)
    best = centred @ vectors[:16].T @ vectors[:16] + x_MP.mean(0)
    ours = patches(codec.linear_decode(codec.encode(images).latents).detach())
    np.testing.assert_allclose(ours, best, atol=2e-5)


def test_latents_have_unit_mean_variance(codec, images):
    latents = codec.encode(images).latents
    assert float(latents.permute(1, 0, 2, 3).flatten(1).var(1, unbiased=False).mean()) == pytest.approx(1.0, abs=1e-3)


def test_an_untrained_refinement_changes_nothing(codec, images):
    latents = codec.encode(images).latents
    assert torch.equal(codec.decode(latents).sample, codec.linear_decode(latents))


def test_a_trained_refinement_is_heard(codec, images):
    trained = PatchCodec(latent_channels=16, refine_channels=REFINE, refine_blocks=1)
    trained.load_state_dict(codec.state_dict())
    last = [layer for layer in trained.refine if isinstance(layer, torch.nn.Conv2d)][-1]
    torch.nn.init.normal_(last.weight, std=0.1)
    latents = codec.encode(images).latents
    assert not torch.allclose(trained.decode(latents).sample, codec.linear_decode(latents), atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), rows=st.integers(1, 4), columns=st.integers(1, 4))
def test_encoding_quadrants_is_encoding_their_grid(codec, seed, rows, columns):
    """A latent sees its own patch alone: what makes per-image caches exact."""
    source = torch.Generator().manual_seed(seed)
    a, a2, b, b2 = (torch.rand(1, 3, 8 * rows, 8 * columns, generator=source) * 2 - 1 for _ in range(4))
    grid = torch.cat([torch.cat([a, a2], dim=3), torch.cat([b, b2], dim=3)], dim=2)
    parts = compose_latents(*(codec.encode(image).latents for image in (a, a2, b, b2)))
    torch.testing.assert_close(codec.encode(grid).latents, parts, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(33, 32), (32, 4), (8, 31)])
def test_sides_that_no_patch_divides_are_refused(codec, size):
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]} px; the codec needs sides that are multiples of 8"):
        codec.encode(torch.zeros(1, 3, *size))


def test_the_feature_distance_sees_blur_and_is_zero_for_equal_images():
    sharp = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
    distance = FeatureDistance()
    assert float(distance(sharp, sharp)) == pytest.approx(0.0, abs=1e-6)
    assert float(distance(sharp, blurred)) > 0.05
