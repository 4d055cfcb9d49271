"""Pre-training: what its examples show and never show, and that it goes on exactly where it stood."""

import pytest
import torch

from lorweb.data.catalogue import load_catalogue
from lorweb.kontext.grid import quadrant_of_latents
from lorweb.tiny.architecture import CLIP_LENGTH, MAX_SEQUENCE_LENGTH, SIZES, Size, build, vocabulary
from lorweb.tiny.batches import Corpus, draw, grid_examples, single_examples
from lorweb.tiny.codec import PatchCodec
from lorweb.tiny.corpus import TRAINED_PHOTOS, _sources, training_tasks
from lorweb.tiny.pretrain import numbers
from lorweb.tiny.state import load_state, save_state
from lorweb.tiny.step import set_rate, train_step, trained_parts


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Latents that name themselves: before of row i is constant 2 i, after 2 i + 1; four tasks of five pairs."""
    rows = torch.arange(20.0)
    shape = (20, 16, 4, 4)
    return Corpus(
        (2 * rows)[:, None, None, None].expand(shape).contiguous(),
        (2 * rows + 1)[:, None, None, None].expand(shape).contiguous(),
        torch.arange(4).repeat_interleave(5),
        training_tasks(load_catalogue())[:4],
    )


def number(latents: torch.Tensor) -> list[int]:
    assert bool((latents.flatten(1).std(1) == 0).all()), "an image was mixed with another"
    return [int(value) for value in latents[:, 0, 0, 0]]


def test_single_examples_show_an_edit_of_their_control(corpus):
    found = single_examples(corpus, 32, (0, 1), 0.5)
    before, after = number(found.y), number(found.x0)
    assert all(b % 2 == 0 and a == b + 1 for b, a in zip(before, after, strict=True))
    told = [prompt for prompt in found.prompts if prompt]
    assert 0 < len(told) < 32
    for prompt, row in zip(found.prompts, before, strict=True):
        assert prompt == "" or prompt in corpus.tasks[row // 2 // 5].instructions


def test_grids_edit_the_bottom_right_alone_and_never_show_the_pair_of_an_analogy(corpus):
    found = grid_examples(corpus, 64, (0, 2), 0.1)
    corners = {(r, c): number(quadrant_of_latents(found.x0, r, c)) for r in (0, 1) for c in (0, 1)}
    control = {(r, c): number(quadrant_of_latents(found.y, r, c)) for r in (0, 1) for c in (0, 1)}
    for place in ((0, 0), (0, 1), (1, 0)):
        assert corners[place] == control[place]
    assert control[1, 1] == control[1, 0]
    assert [n + 1 for n in corners[1, 0]] == corners[1, 1]
    pairs = sum(left + 1 == right for left, right in zip(corners[0, 0], corners[0, 1], strict=True))
    assert pairs < 16, "the top row shows before and after of one image: an exemplar"


def test_draws_depend_on_their_key_alone(corpus):
    assert draw(corpus, 8, (0, 3), 0.1) == draw(corpus, 8, (0, 3), 0.1)
    assert draw(corpus, 8, (0, 3), 0.1) != draw(corpus, 8, (0, 4), 0.1)


@pytest.mark.slow
def test_held_out_sources_share_no_photo_and_no_avatar_with_the_corpus():
    trained = {row["origin"] for row in _sources(0, held_out=False)}
    held_out = {row["origin"] for row in _sources(0, held_out=True)}
    assert len(trained) > 50 and len(held_out) > 50
    assert not trained & held_out
    photos = {origin.split(":")[1] for origin in held_out if origin.startswith("photo")}
    assert photos and not photos & set(TRAINED_PHOTOS)


def test_every_instruction_fits_the_text_slots():
    texts = [text for task in load_catalogue().tasks for text in task.instructions]
    pipe = build(Size(1, 1, 1, 16, 16), vocabulary(texts), PatchCodec(16, 0, 0), 0)
    lengths = [len(pipe.tokenizer_2(text).input_ids) for text in texts]
    assert len(texts) > 100 and max(lengths) <= MAX_SEQUENCE_LENGTH
    assert max(len(pipe.tokenizer(text).input_ids) for text in texts) <= CLIP_LENGTH
    unknown = pipe.tokenizer_2.unk_token_id
    assert not [text for text in texts if unknown in pipe.tokenizer_2(text).input_ids]


def test_three_sizes_grow():
    pipes = [build(size, ["word"], PatchCodec(16, 0, 0), 0) for size in SIZES.values()]
    counts = [sum(p.numel() for p in pipe.transformer.parameters()) for pipe in pipes]
    assert len(counts) >= 3 and counts == sorted(counts)


def test_four_steps_are_two_and_a_resume_and_two(corpus, tmp_path):
    n = {**numbers(), "single_batch": 2, "grid_batch": 2, "warmup_steps": 2}

    def start():
        pipe = build(Size(1, 1, 1, 16, 16), vocabulary(["paint it"]), PatchCodec(16, 0, 0), 0)
        parts = trained_parts(pipe)
        return pipe, parts, torch.optim.AdamW(parts.parameters(), lr=n["learning_rate"])

    def go_on(folder, steps):
        pipe, parts, optimizer = start()
        state = load_state(folder, parts, optimizer)
        for _ in range(steps):
            groups = iter(
                [single_examples(corpus, 2, (0, state.step), 0.1), grid_examples(corpus, 2, (1, state.step), 0.1)]
            )
            set_rate(optimizer, n, state.step, 1.0)
            train_step(pipe, parts, optimizer, groups, n, state)
        save_state(folder, state, parts, optimizer)
        return state, parts

    whole, parts = go_on(tmp_path / "whole", 4)
    go_on(tmp_path / "halves", 2)
    halves, resumed = go_on(tmp_path / "halves", 2)
    assert whole.step == halves.step == 4
    for (name, x), (_, y) in zip(parts.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(x, y), name
    assert all(torch.equal(whole.average[name], halves.average[name]) for name in whole.average)
