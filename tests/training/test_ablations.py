"""What the model does without its exemplar: validation with another one, with a' = a, and without the prompt."""

from dataclasses import replace

import pytest
import torch

from lorweb.kontext.grid import quadrant_of_latents
from lorweb.training.loop import Keeper, train
from lorweb.training.validation import ValidationSet, validate
from tests.training.made import held_out, make_run, train_section, write_data
from tests.training.test_loop import Recorder

ALL = ("shuffled", "identity", "no_prompt")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def prompted(folders):
    """The made validation sets with the instruction of each task."""
    return [
        ValidationSet(
            chosen.split,
            tuple(
                replace(row, triple=replace(row.triple, instruction=row.task.replace("task", "do ")))
                for row in chosen.analogies
            ),
        )
        for chosen in held_out(folders)
    ]


def batches(run, first, second):
    """One batch of each set, all analogies."""
    return [run.encoded.grid_batch([row.triple for row in chosen.analogies]) for chosen in (first, second)]


def test_an_identity_exemplar_shows_a_twice_and_asks_with_a_twice(folders):
    run = make_run(folders, train_section())
    for chosen in held_out(folders):
        true, same = batches(run, chosen, chosen.identity)
        for grid in ("x0_BCHW", "y_BCHW"):
            quadrants = {
                (row, column): [quadrant_of_latents(getattr(batch, grid), row, column) for batch in (true, same)]
                for row in (0, 1)
                for column in (0, 1)
            }
            assert torch.equal(quadrants[0, 1][1], quadrants[0, 0][1]), "a' is a"
            assert not torch.equal(*quadrants[0, 1])
            for place in ((0, 0), (1, 0), (1, 1)):
                assert torch.equal(*quadrants[place])
        a, a2, b = same.query_BQ.chunk(3, dim=1)
        assert torch.equal(a, a2) and torch.equal(b, true.query_BQ.chunk(3, dim=1)[2])
        features = [run.encoded.features(row.triple.exemplar)[0] for row in chosen.analogies]
        torch.testing.assert_close(a, torch.stack(features))
        assert torch.equal(same.text.prompt_BTE, true.text.prompt_BTE)


def test_no_prompt_takes_the_instruction_away_and_nothing_else(folders, prompted):
    run = make_run(folders, train_section())
    for chosen in prompted:
        with_prompt, without = batches(run, chosen, chosen.no_prompt)
        empty = run.encoded.text("").prompt_BTE
        assert torch.equal(without.text.prompt_BTE, empty.expand_as(without.text.prompt_BTE))
        assert not torch.equal(with_prompt.text.prompt_BTE, without.text.prompt_BTE)
        for name in ("x0_BCHW", "y_BCHW", "query_BQ"):
            assert torch.equal(getattr(with_prompt, name), getattr(without, name))


def test_ids_and_so_noise_and_timesteps_stay(folders, prompted):
    for chosen in prompted:
        sets = chosen.ablated(ALL)
        assert [other.split for other in sets] == [chosen.split, *(f"{chosen.split}_{name}" for name in ALL)]
        assert all([row.id for row in other.analogies] == [row.id for row in chosen.analogies] for other in sets)


def test_without_prompts_there_is_none_to_take_away(folders):
    (chosen, _) = held_out(folders)
    assert [other.split for other in chosen.ablated(ALL)] == ["seen", "seen_shuffled", "seen_identity"]
    assert chosen.ablated(()) == [chosen]


def test_an_untrained_basis_tells_the_ablations_apart_by_its_base_alone(folders, prompted):
    run = make_run(folders, train_section())
    losses = [validate(run, other) for other in prompted[0].ablated(ALL)]
    assert len(set(losses)) == 4, "each changes what the frozen base sees"


def test_losses_of_all_ablations_are_in_the_history(folders, prompted, tmp_path):
    run = make_run(folders, train_section(steps=2, ablations=list(ALL)))
    told = train(run, prompted, Keeper(tmp_path, {}), Recorder())
    splits = [f"{split}{name}" for split in ("seen", "unseen") for name in ("", *(f"_{name}" for name in ALL))]
    assert [(row["step"], row["split"]) for row in told.validation] == [(s, split) for s in (0, 2) for split in splits]
    assert told.last("seen_identity") == validate(run, prompted[0].identity)


@pytest.mark.slow
def test_a_trained_basis_needs_its_exemplar(folders, tmp_path):
    """Nothing but a and a' says what the task adds, so both ways to hide it cost the answer."""
    section = train_section(
        steps=120, batch_size=8, validate_every=120, checkpoint_every=120, ablations=["shuffled", "identity"]
    )
    told = train(make_run(folders, section), held_out(folders), Keeper(tmp_path, {}), Recorder())
    for name in ("shuffled", "identity"):
        assert told.last(f"seen_{name}") > 1.05 * told.last("seen")


@pytest.mark.slow
def test_training_is_the_same_whatever_validation_shows(folders, tmp_path):
    losses = [
        train(
            make_run(folders, train_section(ablations=list(names))),
            held_out(folders),
            Keeper(tmp_path / str(len(names)), {}),
            Recorder(),
        ).curves["loss"]
        for names in ((), ALL)
    ]
    assert losses[0] == losses[1]


def test_names_stand_once_and_unknown_ones_are_refused():
    with pytest.raises(ValueError, match="shuffled stands there more than once; name each once"):
        train_section(ablations=["shuffled", "shuffled"])
    with pytest.raises(ValueError, match="'shuffled', 'identity' or 'no_prompt'"):
        train_section(ablations=["shufled"])
    with pytest.raises(ValueError, match="single_lora stands there more than once"):
        train_section(baselines=["single_lora", "single_lora"])
