"""AnalogyPipeline against a whole stock FluxKontextPipeline call on the same control grid, its size rules switched off.

Left to itself the stock call resizes its input to one of 17 sizes and its output to about a megapixel.
"""

from typing import Any

import numpy as np
import pytest
import torch

from lorweb.basis import analogy
from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar
from lorweb.kontext.grid import Size, control_grid, quadrant_of, restore
from lorweb.kontext.load import Base
from lorweb.kontext.pipeline import AnalogyPipeline
from tests.kontext.made import CONFIG, same, train
from tests.kontext_tiny import TEXT_TOKENS, PixelEncoder, drawn_image, stock_call

RULES = {
    "square": CanvasRule(Size(32, 32), latents="grid"),
    "wide": CanvasRule(Size(32, 64), fit="stretch", latents="grid"),
    "tall": CanvasRule(Size(64, 32), fit="pad", latents="grid"),
    "from b": CanvasRule(Size(48, 48), shape="from_b", latents="grid"),
}


@pytest.fixture
def pipe(base: Base) -> AnalogyPipeline:
    train(base)
    return AnalogyPipeline(base, PixelEncoder(), CONFIG, RULES["square"])


SETTINGS = {
    "prompt": "a hat",
    "num_inference_steps": 3,
    "guidance_scale": 2.5,
    "max_sequence_length": TEXT_TOKENS,
}


@pytest.mark.parametrize("b_size", [(70, 33), (30, 64)])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_pictures_are_those_of_a_stock_call_under_the_same_analogy(
    pipe: AnalogyPipeline, rule: CanvasRule, b_size: tuple[int, int]
) -> None:
    pipe.rule = rule
    a, a2, b = drawn_image(0, 60, 50), drawn_image(1, 60, 50), drawn_image(2, *b_size)
    ours = pipe(a, a2, b, "a hat", 3, 2.5, seed=7)
    canvas = Canvas.of(Exemplar.of(a, a2, rule), [b], rule)
    grid = control_grid(canvas.a, canvas.a2, canvas.b[0])
    assert ours.mix_BLN is not None
    with analogy(pipe.base.transformer, mix=ours.mix_BLN):
        theirs = stock_call(pipe.base.pipeline, grid, 7, **SETTINGS)
    assert theirs.size == grid.size
    expected = restore(quadrant_of(theirs, 1, 1), canvas.placements[0])
    assert expected.size == b.size
    assert same(ours.images[0], expected, by=1)
    assert np.asarray(expected).std() > 10, "the comparison is not of two blank images"
    assert not same(
        restore(quadrant_of(stock_call(pipe.base.pipeline, grid, 7, **SETTINGS), 1, 1), canvas.placements[0]),
        expected,
        by=3,
    )


@pytest.mark.parametrize("latents", ["quadrant", "grid"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_noisy_grid_has_the_size_of_the_control_grid_at_every_step(
    pipe: AnalogyPipeline, rule: CanvasRule, latents: Any
) -> None:
    pipe.rule = CanvasRule(rule.quadrant, rule.fit, rule.shape, rule.tolerance, latents)
    b, seen = drawn_image(2, 64, 30), []

    def watch(_: Any, args: Any, kwargs: Any) -> None:
        seen.append((kwargs["hidden_states"].shape[1], kwargs["img_ids"]))

    handle = pipe.base.transformer.register_forward_pre_hook(watch, with_kwargs=True)
    pipe(drawn_image(0), drawn_image(1), b, num_inference_steps=2)
    handle.remove()
    quadrant = pipe.rule.quadrant_for(Size.of(b))
    rows, columns = 2 * quadrant.height // 16, 2 * quadrant.width // 16
    assert len(seen) == 2
    for tokens, ids in seen:
        assert tokens == len(ids) == 2 * rows * columns
        noisy, control = ids.split(rows * columns)
        assert torch.equal(noisy[:, 1:], control[:, 1:]) and (noisy[:, 0] == 0).all() and (control[:, 0] == 1).all()
        assert (noisy[:, 1].max().item() + 1, noisy[:, 2].max().item() + 1) == (rows, columns)
