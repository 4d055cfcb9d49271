"""AnalogyPipeline end to end on a tiny random base with a random basis."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from lorweb.basis import analogy, basis_layers
from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar
from lorweb.kontext.denoise import Sampling, denoise_grids
from lorweb.kontext.grid import Size
from lorweb.kontext.load import Base, load_base
from lorweb.kontext.pipeline import AnalogyPipeline
from lorweb.kontext.request import Request
from tests.kontext.made import A2, A, same
from tests.kontext_tiny import PixelEncoder, drawn_image


def test_b2_has_bs_own_size_and_the_call_repeats(pipe: AnalogyPipeline) -> None:
    b = drawn_image(2, 70, 33)
    first, again = pipe(A, A2, b), pipe(A, A2, b)
    assert len(first.images) == 1 and first.images[0].size == (70, 33) and first.images[0].mode == "RGB"
    assert same(first.images[0], again.images[0])
    assert first.mix_BLN.shape == (1, len(basis_layers(pipe.base.transformer)), 3)
    assert not same(first.images[0], pipe(A, A2, b, seed=1).images[0], by=2)


def test_a_list_equals_its_images_one_by_one_over_any_batch_size(pipe: AnalogyPipeline) -> None:
    queries = [drawn_image(i, 40 + 3 * i, 40) for i in range(2, 7)]
    alone = [pipe(A, A2, b, seed=4).images[0] for b in queries]
    for pipe.batch_size in (1, 2, 8):
        together = pipe(A, A2, queries, seed=4).images
        assert all(same(x, y, by=1) for x, y in zip(alone, together, strict=True))


def test_each_image_may_have_its_own_seed_prompt_and_mix(pipe: AnalogyPipeline) -> None:
    queries = [drawn_image(2), drawn_image(2), drawn_image(2)]
    seeded = pipe(A, A2, queries, seed=[1, 2, 1]).images
    assert same(seeded[0], seeded[2], by=1) and not same(seeded[0], seeded[1], by=2)
    prompted = pipe(A, A2, queries, prompt=["red", "blue", "red"]).images
    assert same(prompted[0], prompted[2], by=1) and not same(prompted[0], prompted[1], by=0)
    mixes = pipe.mix(A, A2, [drawn_image(2), drawn_image(9), drawn_image(2)]).flip(1)
    mixed = pipe(A, A2, queries, mix=mixes)
    assert torch.equal(mixed.mix_BLN, mixes)


def test_a_generator_draws_what_its_seed_would(pipe: AnalogyPipeline) -> None:
    b = drawn_image(3)
    generated = pipe(A, A2, b, generator=torch.Generator().manual_seed(6)).images[0]
    assert same(generated, pipe(A, A2, b, seed=6).images[0])
    two = pipe(A, A2, [b, b], generator=torch.Generator().manual_seed(6)).images
    assert same(two[0], generated, by=1) and not same(two[1], two[0], by=2), "one generator draws on"


def test_strength_zero_is_the_base_and_one_is_not(pipe: AnalogyPipeline, frozen_base: Base) -> None:
    b, rule = drawn_image(2), CanvasRule(Size(32, 32))
    canvas = Canvas.of(Exemplar.of(A, A2, rule), [b], rule)
    control = canvas.encode(frozen_base, rule)
    z = denoise_grids(frozen_base, control, frozen_base.text([""]), [0], Sampling(2, 1.0))
    bare = canvas.decode(frozen_base, z, rule)[0]
    assert same(pipe(A, A2, b, strength=0.0).images[0], bare, by=1)
    assert not same(pipe(A, A2, b).images[0], bare, by=3)
    assert not same(pipe(A, A2, b).images[0], pipe(A, A2, b, strength=0.5).images[0], by=1)


def test_the_mix_is_computed_from_the_exemplar_and_b_and_can_be_given(pipe: AnalogyPipeline) -> None:
    b = drawn_image(2)
    e_LN = pipe.mix(A, A2, b)
    assert e_LN.shape == (len(basis_layers(pipe.base.transformer)), 3) and e_LN.dtype == torch.float32
    torch.testing.assert_close(e_LN.sum(-1), torch.ones(len(e_LN)))
    assert not torch.allclose(pipe.mix(A, drawn_image(8), b), e_LN, atol=1e-4)
    torch.testing.assert_close(pipe.mix(A, A2, [b, drawn_image(5)])[0], e_LN)
    computed = pipe(A, A2, b)
    torch.testing.assert_close(computed.mix_BLN[0], e_LN)
    assert same(pipe(A, A2, b, mix=e_LN).images[0], computed.images[0])
    first_alone = torch.eye(3)[0].expand_as(e_LN)
    assert not same(pipe(A, A2, b, mix=first_alone).images[0], computed.images[0], by=1)


def test_the_encoder_runs_once_per_image_however_many_steps(pipe: AnalogyPipeline) -> None:
    seen: list[int] = []

    class Counting(PixelEncoder):
        def __call__(self, images: list[Image.Image]) -> torch.Tensor:
            seen.append(len(images))
            return super().__call__(images)

    pipe.encoder = Counting()
    pipe(A, A2, [drawn_image(i) for i in range(4)], num_inference_steps=5)
    assert sorted(seen) == [1, 1, 4]


def test_folding_gives_the_same_picture_and_the_weights_back(pipe: AnalogyPipeline) -> None:
    b = drawn_image(2)
    weights = {name: p.clone() for name, p in pipe.base.transformer.named_parameters()}
    mixed = pipe(A, A2, b, strength=0.7).images[0]
    pipe.fold = True
    assert same(pipe(A, A2, b, strength=0.7).images[0], mixed, by=1)
    assert all(torch.equal(p, weights[name]) for name, p in pipe.base.transformer.named_parameters())


def test_a_baked_lora_on_a_bare_base_paints_the_same_picture(pipe: AnalogyPipeline, base_folder: Path) -> None:
    b, rule = drawn_image(2), pipe.rule
    baked = pipe.bake(pipe.mix(A, A2, b))
    bare = load_base(str(base_folder), torch.float32, "cpu")
    bare.pipeline.load_lora_weights(baked.state_dict)
    canvas = Canvas.of(Exemplar.of(A, A2, rule), [b], rule)
    z = denoise_grids(bare, canvas.encode(bare, rule), bare.text([""]), [0], Sampling(2, 1.0))
    assert same(canvas.decode(bare, z, rule)[0], pipe(A, A2, b).images[0], by=1)


def test_an_exception_in_the_callback_leaves_the_pipeline_usable(pipe: AnalogyPipeline) -> None:
    b = drawn_image(2)
    before = pipe(A, A2, b).images[0]

    def stop(done: int, steps: int) -> None:
        raise KeyboardInterrupt(f"{done} of {steps}")

    for pipe.fold in (True, False):
        with pytest.raises(KeyboardInterrupt, match="1 of 2"):
            pipe(A, A2, b, callback=stop)
    assert same(pipe(A, A2, b).images[0], before)


def test_queries_stream_lazily_and_in_order(pipe: AnalogyPipeline) -> None:
    pipe.batch_size = 2
    pipe.rule = CanvasRule(Size(32, 32), shape="from_b")
    asked: list[int] = []

    def queries() -> object:
        for i, size in enumerate([(40, 40), (80, 40), (80, 40), (40, 80), (40, 40)]):
            asked.append(i)
            yield drawn_image(i, *size)

    sizes, ahead = [], []
    for answer in pipe.stream(A, A2, queries(), Request(Sampling(1, 1.0))):  # type: ignore[arg-type]
        sizes.append(answer.image.size)
        ahead.append(len(asked) - len(sizes))
    assert sizes == [(40, 40), (80, 40), (80, 40), (40, 80), (40, 40)]
    assert max(ahead) <= 2


def test_denoise_grids_runs_inside_an_analogy_of_several_exemplars(pipe: AnalogyPipeline) -> None:
    """What evaluation does: a batch of different analogies, each row under its own mix."""
    base, rule = pipe.base, pipe.rule
    pairs = [(A, A2, drawn_image(2)), (drawn_image(5), drawn_image(6), drawn_image(7))]
    control = torch.cat([Canvas.of(Exemplar.of(a, a2, rule), [b], rule).encode(base, rule) for a, a2, b in pairs])
    mixes = torch.stack([pipe.mix(*pair) for pair in pairs])
    with analogy(base.transformer, mix=mixes):
        together = denoise_grids(base, control, base.text([""]), [0, 0], Sampling(2, 1.0))
    for row in range(2):
        with analogy(base.transformer, mix=mixes[row]):
            alone = denoise_grids(base, control[row : row + 1], base.text([""]), [0], Sampling(2, 1.0))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-3, rtol=1e-3)
