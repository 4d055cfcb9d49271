"""Editors by diffusion: stock pipelines as oracles, one image's answer whatever its batch, nothing stretched."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pydantic import ValidationError

from lorweb.data.editors.base import checked
from lorweb.data.editors.build import build_editor, describe
from lorweb.data.editors.diffusion import edited
from lorweb.data.editors.entries import DiffusersConfig, KontextConfig, LoraEntry
from lorweb.data.rejects import Rejected
from tests.data.editing import NUMBERS, POOL, request, save_lora, save_tiny_diffusion
from tests.kontext_tiny import drawn_image, save_tiny_kontext, stock_call, tiny_kontext

KONTEXT = {
    "editor": "kontext",
    "compile": False,
    "side": 64,
    "num_inference_steps": 2,
    "guidance_scale": 2.5,
    **NUMBERS,
}
STOCK = {
    "editor": "diffusers", "pipeline": "image_to_image", "strength": 0.5, "side": 64, "num_inference_steps": 4,
    "guidance_scale": 3.0, "arguments": {}, **NUMBERS,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_kontext(tmp_path_factory.mktemp("kontext"))


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    return save_tiny_diffusion(tmp_path_factory.mktemp("diffusion"))


def kontext(folder, **changes):
    return KontextConfig(**{**KONTEXT, "model": str(folder), **changes})


def stock(folder, **changes):
    return DiffusersConfig(**{**STOCK, "model": str(folder), **changes})


def pixels(image):
    return np.asarray(image, int)


def test_kontext_is_the_stock_pipeline_on_the_source(folder):
    (after,) = build_editor(kontext(folder), folder)([request(3)])
    expected = stock_call(
        tiny_kontext(), drawn_image(3, 64, 64), 3, prompt="use sepia", num_inference_steps=2, guidance_scale=2.5,
        max_sequence_length=16,
    )  # fmt: skip
    assert np.abs(pixels(after) - pixels(expected)).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kontext", "image_to_image", "inpaint"])
def test_an_answer_depends_on_its_request_alone(kind, folder, diffusion):
    cfg = kontext(folder) if kind == "kontext" else stock(diffusion, pipeline=kind)
    editor = build_editor(cfg, folder)
    batch = [request(1), request(2, drawn_image(2, 90, 40)), request(3, drawn_image(3, 33, 47))]
    together = checked(editor(batch), batch)
    alone = [build_editor(cfg, folder)([one])[0] for one in reversed(batch)][::-1]
    assert [a.tobytes() for a in together] == [a.tobytes() for a in alone]
    assert [a.size for a in together] == [(64, 64), (90, 40), (33, 47)]
    other = [checked(editor([request(seed, batch[0].image())]), batch[:1])[0].tobytes() for seed in (1, 9)]
    assert other[0] == together[0].tobytes() != other[1]


def test_sources_are_worked_at_in_their_own_proportions():
    image = Image.new("RGB", (200, 70))
    ImageDraw.Draw(image).ellipse((80, 15, 120, 55), fill="white")  # 40 px across both ways
    seen = []

    def keep(fitted, _):
        seen.append(fitted)
        return fitted

    (back,) = edited([request(1, image)], 96, keep)
    left, top, right, bottom = seen[0].convert("L").point(lambda v: 255 * (v > 128)).getbbox()
    assert abs((right - left) - (bottom - top)) <= 1 and not (seen[0].width % 16 or seen[0].height % 16)
    assert 0.8 < seen[0].width * seen[0].height / 96**2 < 1.25
    assert back.size == image.size and np.abs(pixels(back) - pixels(image)).mean() < 3


def test_image_to_image_is_the_stock_pipeline(diffusion):
    from diffusers import StableDiffusionImg2ImgPipeline

    (after,) = build_editor(stock(diffusion, prompt="{caption}, {instruction}"), diffusion)([request(5)])
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(str(diffusion), safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        prompt="a disc, use sepia", image=drawn_image(5, 64, 64), strength=0.5, num_inference_steps=4,
        guidance_scale=3.0, generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip
    assert after.tobytes() == expected.tobytes()


def test_a_lora_works_by_its_weight(folder, tmp_path):
    file = save_lora(tmp_path)
    plain = kontext(folder)
    with_lora = [kontext(folder, loras=(LoraEntry(path=str(file), weight=w),)) for w in (0.0, 1.0)]
    images = [build_editor(cfg, folder)([request(1)])[0] for cfg in (plain, *with_lora)]
    assert np.abs(pixels(images[0]) - pixels(images[1])).max() <= 1
    assert np.abs(pixels(images[0]) - pixels(images[2])).mean() > 1
    assert len({describe(cfg).revision for cfg in (plain, *with_lora)}) == 3


def test_any_pipeline_that_takes_an_image_by_its_own_class(folder):
    own = stock(folder, pipeline="own", strength=None, num_inference_steps=2, guidance_scale=2.5)
    (theirs,) = build_editor(own, folder)([request(3)])
    (ours,) = build_editor(kontext(folder), folder)([request(3)])
    # The stock call pads its text to 512 tokens, ours to what the folder's lorweb.json says.
    assert theirs.size == ours.size and np.abs(pixels(theirs) - pixels(ours)).mean() < 40
    asked = stock(folder, pipeline="own", strength=None, arguments={"max_sequence_length": 16}, num_inference_steps=2,
                  guidance_scale=2.5)  # fmt: skip
    assert np.abs(pixels(build_editor(asked, folder)([request(3)])[0]) - pixels(ours)).max() <= 1


def test_a_revision_is_of_what_decides_pixels(folder):
    first = describe(kontext(folder))
    assert first.seed_by == "pair" and first == describe(kontext(folder, tasks=("style/*",)))
    changed = [
        {"num_inference_steps": 3},
        {"guidance_scale": 1.0},
        {"dtype": "bfloat16"},
        {"side": 96},
        {"prompt": "x {instruction}"},
    ]
    assert len({first.revision, *(describe(kontext(folder, **one)).revision for one in changed)}) == 6


def test_what_cannot_be_loaded_is_a_sentence(folder, diffusion, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / "a.safetensors").write_bytes(b"x" * 40)
    for cfg, words in (
        (kontext(folder, offload="model"), "runs on the CPU; use offload 'none'"),
        (kontext(folder, loras=(LoraEntry(path=str(tmp_path / "a.bin"), weight=1),)), "not a .safetensors file"),
        (kontext(folder, loras=(LoraEntry(path=str(tmp_path / "a.safetensors"), weight=1),)), "damaged or truncated"),
        (kontext(folder, loras=(LoraEntry(path=str(tmp_path / "b.safetensors"), weight=1),)), "no LoRA at"),
        (kontext(diffusion), "holds a StableDiffusionPipeline, not a FluxKontextPipeline"),
        (stock(tmp_path), "has no model_index.json"),
        (stock("no such thing"), "give a diffusers folder, or a hub id"),
        (stock(diffusion, pipeline="own"), "takes no prompt and image"),
        (stock(diffusion, strength=None), "needs strength, but it is null"),
        (stock(diffusion, arguments={"etta": 0.1}), "no argument 'etta'; did you mean 'eta'"),
        (stock(diffusion, loras=(LoraEntry(path=str(save_lora(tmp_path)), weight=1),)), "hand.safetensors"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            build_editor(cfg, folder)


def test_numbers_that_contradict_each_other_are_refused(folder):
    with pytest.raises(ValidationError, match="less than one step"):
        stock(folder, strength=0.1, num_inference_steps=4)
    with pytest.raises(ValidationError, match="all tasks would be the same"):
        stock(folder, prompt="make it nice")


def test_latents_that_are_no_numbers_are_refused(folder):
    editor = build_editor(kontext(folder), folder)
    editor.base.transformer.proj_out.weight.data[0, 0] = float("inf")
    (answer,) = editor([request(1)])
    assert isinstance(answer, Rejected) and answer.check == "not_finite"


def test_a_bad_source_costs_itself_alone(folder):
    broken = request(1)
    object.__setattr__(broken.source, "image", b"no image")
    answers = build_editor(kontext(folder), folder)([broken, request(2)])
    assert isinstance(answers[0], Rejected) and answers[0].check == "not_an_image"
    assert isinstance(answers[1], Image.Image)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("offload", ["none", "model", "sequential"])
def test_on_a_gpu_with_offload_it_is_the_same_picture(folder, offload):
    pool = POOL.model_copy(update={"gpus": 1})
    (expected,) = build_editor(kontext(folder), folder)([request(3)])
    (after,) = build_editor(kontext(folder, pool=pool, offload=offload), folder)([request(3)])
    assert np.abs(pixels(after) - pixels(expected)).max() <= 2
