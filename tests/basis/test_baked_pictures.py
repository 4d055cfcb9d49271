"""Baked files in a stock FluxKontextPipeline on the packaged base, against the live analogy; and swapping them hot."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lorweb.basis import BasisConfig, add_basis, basis_layers
from lorweb.kontext.canvas import CanvasRule
from lorweb.kontext.grid import Size, control_grid, quadrant_of
from lorweb.kontext.load import load_base
from lorweb.kontext.pipeline import AnalogyPipeline
from tests.kontext_tiny import PixelEncoder, drawn_image, stock_call

SIDE = 64  # px, the base's own quadrant
IMAGES = [drawn_image(seed, SIDE, SIDE) for seed in (1, 2, 3)]
SEED = 11
SETTINGS = BasisConfig(
    n_loras=4, rank=2, key_dim=8, query_dim=36, heads=1, activation="tanh", reduce="mean", projection="linear",
    query_mode="cat-aa'b", targets=("transformer_blocks.*", "single_transformer_blocks.*"),
)  # fmt: skip


def analogies(settings: BasisConfig = SETTINGS) -> AnalogyPipeline:
    """The packaged base with a random basis whose update is a good part of the weights."""
    base = load_base("tiny", torch.float32, "cpu")
    add_basis(base.transformer, settings, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in basis_layers(base.transformer).values():
            layer.B.copy_(torch.randn(layer.B.shape, generator=generator) * 10 * layer.weight.std())
    return AnalogyPipeline(base, PixelEncoder(), settings, CanvasRule(Size(SIDE, SIDE), latents="grid"))


@pytest.fixture(scope="module")
def live() -> AnalogyPipeline:
    return analogies()


def stock() -> Any:
    """A stock pipeline of the packaged base: `load_base` sets evaluation mode and no more."""
    return load_base("tiny", torch.float32, "cpu").pipeline


def painted(pipe: Any) -> np.ndarray:
    """b' [H, W, 3] of one call of the stock pipeline on the control grid."""
    settings = {"prompt": "", "guidance_scale": 1.0, "num_inference_steps": 6, "max_sequence_length": 12}
    return pixels(quadrant_of(stock_call(pipe, control_grid(*IMAGES), SEED, **settings), 1, 1))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def of_the_live_mix(live: AnalogyPipeline, mix: torch.Tensor) -> np.ndarray:
    return pixels(live(*IMAGES, num_inference_steps=6, guidance_scale=1.0, seed=SEED, mix=mix).images[0])


@pytest.mark.slow
def test_the_exact_bake_paints_the_live_picture_within_one_step_of_a_byte(
    live: AnalogyPipeline, tmp_path: Path
) -> None:
    mix = live.mix(*IMAGES)
    live.bake(mix).save(tmp_path / "lora.safetensors")
    pipe = stock()
    before = painted(pipe)
    pipe.load_lora_weights(tmp_path / "lora.safetensors", adapter_name="analogy")
    baked, expected = painted(pipe), of_the_live_mix(live, mix)
    assert np.abs(baked - expected).max() <= 1
    assert np.abs(baked - before).mean() > 8, "the edit hardly shows"
    pipe.unload_lora_weights()
    assert np.array_equal(painted(pipe), before)


def test_the_comfyui_file_paints_the_live_picture_too(tmp_path: Path) -> None:
    """Without the first linear of single blocks, of which diffusers' converter knows FLUX.1's width alone."""
    targets = ("transformer_blocks.*", "single_*.norm.linear", "single_*.proj_out")
    live = analogies(SETTINGS.model_copy(update={"targets": targets}))
    mix = live.mix(*IMAGES)
    live.bake(mix).save(tmp_path / "lora.safetensors", "comfyui")
    pipe = stock()
    before = painted(pipe)
    pipe.load_lora_weights(tmp_path / "lora.safetensors")
    baked = painted(pipe)
    assert np.abs(baked - of_the_live_mix(live, mix)).max() <= 1
    assert np.abs(baked - before).mean() > 8, "the edit hardly shows"


@pytest.mark.slow
def test_the_error_of_a_low_rank_falls_with_the_rank(live: AnalogyPipeline, tmp_path: Path) -> None:
    mix = live.mix(*IMAGES)
    expected, seen, reported = of_the_live_mix(live, mix), [], []
    for rank in (1, 4, SETTINGS.total_rank):
        baked = live.bake(mix, rank)
        pipe = stock()
        pipe.load_lora_weights(baked.state_dict)
        seen.append(float(np.abs(painted(pipe) - expected).mean()))
        reported.append(baked.total_error)
    assert seen[0] > seen[1] > seen[2] and seen[2] < 0.1
    assert reported[0] > reported[1] > 0.1 and reported[2] < 1e-5


class Recompilations:
    """Counts what torch.compile compiles, and runs it as it is."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, module: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        self.count += 1
        return module.forward


@pytest.mark.slow
def test_bakes_of_any_rank_swap_hot_without_compiling_again(live: AnalogyPipeline, tmp_path: Path) -> None:
    one = live.mix(*IMAGES)
    files = [tmp_path / f"{index}.safetensors" for index in range(3)]
    for file, mix, rank in zip(files, (one, one.flip(0) * 1.5, one), (None, None, 3), strict=True):
        live.bake(mix, rank).save(file)
    fresh = []
    for file in files:
        pipe = stock()
        pipe.load_lora_weights(file)
        fresh.append(painted(pipe))
    assert min(np.abs(fresh[0] - fresh[1]).mean(), np.abs(fresh[0] - fresh[2]).mean()) > 2, "swapping would not show"

    torch._dynamo.reset()
    compiled, pipe = Recompilations(), stock()
    pipe.enable_lora_hotswap(target_rank=SETTINGS.total_rank)
    pipe.load_lora_weights(files[0], adapter_name="analogy")
    for block in [*pipe.transformer.transformer_blocks, *pipe.transformer.single_transformer_blocks]:
        block.compile(backend=compiled)
    assert np.abs(painted(pipe) - fresh[0]).max() <= 1
    graphs = compiled.count
    assert graphs > 0
    for index in (1, 2, 0):
        pipe.load_lora_weights(files[index], hotswap=True, adapter_name="analogy")
        assert np.abs(painted(pipe) - fresh[index]).max() <= 1, f"bake {index}"
    assert compiled.count == graphs, f"{compiled.count - graphs} graphs were compiled again"
    torch._dynamo.reset()
