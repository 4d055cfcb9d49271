"""Offload by the stock pipeline's own hooks: same pictures, weights at rest elsewhere, the basis where it is needed.

Here the "accelerator" is the CPU. Layer by layer, weights are placeholders on the meta device outside their forward, so
that whatever is read in the wrong place fails; the tests marked gpu do it all on CUDA.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module

from lorweb.basis import BasisConfig, basis_layers
from lorweb.kontext.canvas import CanvasRule
from lorweb.kontext.codec import decode_latents, encode_image
from lorweb.kontext.grid import Size
from lorweb.kontext.load import Base, load_base
from lorweb.kontext.place import Offload
from tests.kontext.made import A2, CONFIG, INTERNAL, A, same
from tests.kontext.offload_cases import CPU, CUDA, DEVICES, OFFLOADS, B, pipeline, places
from tests.kontext_tiny import drawn_image


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("config", [CONFIG, INTERNAL], ids=["external", "internal"])
@pytest.mark.parametrize("offload", OFFLOADS)
def test_the_picture_is_the_one_without_offload(
    base_folder: Path, offload: Offload, config: BasisConfig, device: str
) -> None:
    queries = [B, drawn_image(3, 40, 40), drawn_image(4, 20, 40)]
    plain = pipeline(base_folder, "none", config, device)
    moved = pipeline(base_folder, offload, config, device)
    for ask in ({"prompt": "a hat", "seed": 3}, {"prompt": ["x", "y", "z"], "seed": [1, 2, 3], "strength": 0.6}):
        expected, found = plain(A, A2, queries, **ask), moved(A, A2, queries, **ask)  # type: ignore[arg-type]
        assert all(
            same(one, two, by=0 if device == CPU else 2) for one, two in zip(expected.images, found.images, strict=True)
        )
    other = plain(A, A2, queries, strength=0.0)
    assert not same(other.images[0], expected.images[0], by=3), "the basis does something"


@pytest.mark.slow
def test_layer_by_layer_only_the_basis_is_in_memory(base_folder: Path) -> None:
    pipe = pipeline(base_folder, "sequential")
    assert places(pipe.base) == ({"meta"}, {"cpu"})
    assert pipe.base.device.type == "cpu", "where it runs, not where it rests"
    pipe(A, A2, B)
    assert places(pipe.base) == ({"meta"}, {"cpu"}), "and so it is after a run"


@pytest.mark.parametrize("offload", OFFLOADS)
def test_an_exception_in_a_run_leaves_the_pipeline_usable(base_folder: Path, offload: Offload) -> None:
    pipe = pipeline(base_folder, offload)
    before, rest = pipe(A, A2, B).images[0], places(pipe.base)

    def stop(done: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe(A, A2, B, callback=stop)
    assert places(pipe.base) == rest
    assert same(pipe(A, A2, B).images[0], before)


@pytest.mark.parametrize("offload", OFFLOADS)
def test_mix_bake_text_and_codec_work_between_runs(base_folder: Path, frozen_base: Base, offload: Offload) -> None:
    plain, moved = pipeline(base_folder, "none"), pipeline(base_folder, offload)
    e_LN = moved.mix(A, A2, B)
    torch.testing.assert_close(e_LN, plain.mix(A, A2, B))
    baked, expected = moved.bake(e_LN).state_dict, plain.bake(e_LN).state_dict
    assert baked.keys() == expected.keys() and all(torch.equal(baked[key], expected[key]) for key in baked)
    torch.testing.assert_close(moved.base.text(["a hat"]).prompt_BTE, frozen_base.text(["a hat"]).prompt_BTE)
    z = encode_image(moved.base, [A.resize((32, 32))])
    torch.testing.assert_close(z, encode_image(frozen_base, [A.resize((32, 32))]))
    assert same(decode_latents(moved.base, z)[0], decode_latents(frozen_base, z)[0])


def test_a_fold_needs_its_weights_in_memory(base_folder: Path) -> None:
    plain, moved = pipeline(base_folder, "none"), pipeline(base_folder, "model")
    weights = {name: p.clone() for name, p in moved.base.transformer.named_parameters()}
    moved.fold = True
    assert same(moved(A, A2, B).images[0], plain(A, A2, B).images[0], by=1)
    assert all(torch.equal(p, weights[name]) for name, p in moved.base.transformer.named_parameters())
    layered = pipeline(base_folder, "sequential")
    layered.fold = True
    with pytest.raises(ValueError, match="cannot be folded into weights that are offloaded one by one; set fold ="):
        layered(A, A2, B)
    layered.fold = False
    assert same(layered(A, A2, B).images[0], plain(A, A2, B).images[0])


def test_the_transformer_is_brought_in_before_its_coefficients_are_made(base_folder: Path) -> None:
    """They are made on the device of its keys, and a fold changes the weights: both have to be in place by then."""
    seen: list[bool] = []

    class Watching(ModelHook):
        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(next(iter(basis_layers(module).values())).e_BK is None)
            return args, kwargs

    pipe = pipeline(base_folder, "model")
    add_hook_to_module(pipe.base.transformer, Watching(), append=True)
    pipe(A, A2, B, num_inference_steps=2)
    assert seen == [True, False, False]


def test_after_a_run_models_go_back_to_rest(base_folder: Path) -> None:
    """The stock pipeline does it by new hooks, whose beginning is that the model rests in main memory."""
    pipe = pipeline(base_folder, "model")
    used = pipe.base.transformer._hf_hook
    pipe(A, A2, B)
    assert pipe.base.transformer._hf_hook is not used


def test_a_codec_is_brought_in_to_encode_and_to_decode() -> None:
    seen: list[str] = []

    class Watching(ModelHook):
        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(type(module).__name__)
            return args, kwargs

    base = load_base("tiny", torch.float32, CPU)
    add_hook_to_module(base.pipeline.vae, Watching(), append=True)
    z = encode_image(base, [drawn_image(0, 32, 32)])
    assert seen == ["PatchCodec"]
    decode_latents(base, z)
    assert seen == ["PatchCodec"] * 2


@pytest.mark.parametrize("offload", OFFLOADS)
def test_the_packaged_base_and_its_codec_are_offloaded_too(offload: Offload) -> None:
    plain, moved = pipeline("tiny", "none"), pipeline("tiny", offload)
    for pipe in (plain, moved):
        pipe.rule = CanvasRule(Size(64, 64))
    expected = plain(A, A2, B, num_inference_steps=2).images[0]
    assert same(moved(A, A2, B, num_inference_steps=2).images[0], expected, by=1)
    assert hasattr(moved.base.pipeline.vae, "_hf_hook")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("offload", OFFLOADS)
def test_on_cuda_weights_come_and_go(base_folder: Path, offload: Offload) -> None:
    pipe = pipeline(base_folder, offload, device=CUDA)
    assert pipe.base.device.type == "cuda"
    during: list[tuple[set[str], set[str]]] = []
    pipe(A, A2, B, callback=lambda done, steps: during.append(places(pipe.base)))
    if offload == "model":
        assert during[0][1] == {"cuda"} and "cuda" in during[0][0], "the transformer is there for its steps"
        assert places(pipe.base) == ({"cpu"}, {"cpu"})
    else:
        assert during[0] == places(pipe.base) == ({"meta"}, {"cuda"})
