"""What AnalogyPipeline takes, and what it refuses with a sentence."""

import pytest
import torch
from PIL import Image

from lorweb.kontext.pipeline import AnalogyPipeline
from tests.kontext.made import A2, CONFIG, A
from tests.kontext_tiny import PixelEncoder, drawn_image


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "L"])
def test_images_of_any_mode_are_taken(pipe: AnalogyPipeline, mode: str) -> None:
    b = drawn_image(2).convert(mode)
    assert pipe(A.convert(mode), A2, b, num_inference_steps=1).images[0].mode == "RGB"


def test_one_pixel_is_a_picture_and_a_thread_is_not(pipe: AnalogyPipeline) -> None:
    assert pipe(A, A2, Image.new("RGB", (1, 1))).images[0].size == (1, 1)
    with pytest.raises(ValueError, match=r"b\[0\] has 1x4000 px"):
        pipe(A, A2, Image.new("RGB", (1, 4000)))
    with pytest.raises(ValueError, match="a' has 1x4000 px"):
        pipe(A, Image.new("RGB", (1, 4000)), A)
    with pytest.raises(ValueError, match="their aspects differ"):
        pipe(A, drawn_image(1, 60, 40), A)


def test_requests_that_do_not_add_up_are_refused(pipe: AnalogyPipeline) -> None:
    b = drawn_image(2)
    with pytest.raises(ValueError, match="no query image"):
        pipe(A, A2, [])
    with pytest.raises(ValueError, match="2 prompts for 1 query images"):
        pipe(A, A2, b, prompt=["x", "y"])
    with pytest.raises(ValueError, match="1 seeds or generators for 2 query images"):
        pipe(A, A2, [b, b], seed=[1])
    with pytest.raises(ValueError, match="3 mixes for 1"):
        pipe(A, A2, b, mix=torch.zeros(3, 20, 3))
    with pytest.raises(ValueError, match="generator and seed are both given"):
        pipe(A, A2, b, seed=1, generator=torch.Generator())
    with pytest.raises(ValueError, match="steps is 0"):
        pipe(A, A2, b, num_inference_steps=0)
    with pytest.raises(ValueError, match="the mix has shape"):
        pipe(A, A2, b, mix=torch.zeros(2, 3))


def test_an_encoder_of_another_width_is_refused(pipe: AnalogyPipeline) -> None:
    class Wide(PixelEncoder):
        dim = 99

    with pytest.raises(ValueError, match="gives a query of 297 values"):
        AnalogyPipeline(pipe.base, Wide(), CONFIG, pipe.rule)
