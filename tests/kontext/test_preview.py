"""b' as it forms: what a look at a run shows, and that looking changes nothing."""

import pytest
from PIL import Image

from lorweb.kontext.denoise import Sampling
from lorweb.kontext.pipeline import AnalogyPipeline
from lorweb.kontext.request import Request
from tests.kontext.made import A2, A, same
from tests.kontext_tiny import drawn_image

B, WIDE = drawn_image(2, 32, 32), drawn_image(3, 96, 48)


def watch(pipe: AnalogyPipeline, b: Image.Image, steps: int) -> tuple[Image.Image, list[tuple[int, int, Image.Image]]]:
    seen: list[tuple[int, int, Image.Image]] = []
    request = Request(Sampling(steps, 2.5), preview=lambda done, all_, images: seen.append((done, all_, images[0])))
    (answer,) = pipe.stream(A, A2, [b], request)
    return answer.image, seen


def test_every_step_is_shown_and_the_last_look_is_the_answer(pipe: AnalogyPipeline) -> None:
    image, seen = watch(pipe, B, 4)
    assert [(done, all_) for done, all_, _ in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert same(seen[-1][2], image)
    assert not same(seen[0][2], image), "the base is so simple that one step says it all"


@pytest.mark.parametrize("steps", [2, 5])
def test_the_first_look_is_the_answer_of_a_run_of_one_step(pipe: AnalogyPipeline, steps: int) -> None:
    one = pipe(A, A2, B, num_inference_steps=1, guidance_scale=2.5).images[0]
    assert same(watch(pipe, B, steps)[1][0][2], one, by=1)


def test_looking_changes_nothing(pipe: AnalogyPipeline) -> None:
    unseen = pipe(A, A2, B, num_inference_steps=3, guidance_scale=2.5).images[0]
    assert same(watch(pipe, B, 3)[0], unseen)


def test_looks_are_of_the_models_own_size_without_padding(pipe: AnalogyPipeline) -> None:
    image, seen = watch(pipe, WIDE, 2)
    assert image.size == WIDE.size
    assert seen[0][2].size == (32, 16)
    assert same(seen[-1][2].resize(WIDE.size, Image.Resampling.LANCZOS), image)


def test_each_query_of_a_batch_is_shown(pipe: AnalogyPipeline) -> None:
    seen: list[list[Image.Image]] = []
    request = Request(Sampling(1, 2.5), preview=lambda done, all_, images: seen.append(images))
    answers = [answer.image for answer in pipe.stream(A, A2, [B, drawn_image(4, 32, 32)], request)]
    assert len(seen) == 1 and all(same(*pair) for pair in zip(seen[0], answers, strict=True))
    assert not same(*answers)


def test_a_watch_of_the_steps_goes_on_beside_it(pipe: AnalogyPipeline) -> None:
    counted: list[int] = []
    shown: list[int] = []
    sampling = Sampling(3, 2.5, lambda step: counted.append(step.done))
    list(pipe.stream(A, A2, [B], Request(sampling, preview=lambda done, all_, images: shown.append(done))))
    assert counted == shown == [1, 2, 3]


def test_whoever_looks_can_stop_the_run_and_the_next_one_is_whole(pipe: AnalogyPipeline) -> None:
    expected = pipe(A, A2, B, num_inference_steps=3, guidance_scale=2.5).images[0]

    def refuse(done: int, steps: int, images: list[Image.Image]) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError, match="1"):
        list(pipe.stream(A, A2, [B], Request(Sampling(3, 2.5), preview=refuse)))
    assert same(watch(pipe, B, 3)[0], expected)
