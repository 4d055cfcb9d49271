import pytest
import torch

from lorweb.training.dataset import Triple
from lorweb.training.health import router_health
from lorweb.training.sampler import other_exemplar
from lorweb.training.step import take_step
from lorweb.training.validation import HeldOut, choose, validate
from tests.training.made import held_out, make_run, train_section, write_data


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def test_the_same_model_has_the_same_loss_every_time_and_in_any_batch_size(folders):
    seen, _ = held_out(folders)
    losses = [validate(make_run(folders, train_section(batch_size=size)), seen) for size in (1, 3, 16)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    run = make_run(folders, train_section())
    assert validate(run, seen) == validate(run, seen)


def test_only_the_quadrant_of_the_answer_counts(folders):
    """With B = 0 the prediction is fixed; changing the truth of b' changes the loss."""
    seen, _ = held_out(folders)
    run = make_run(folders, train_section())
    before = validate(run, seen)
    after_rows = [run.encoded.pairs[analogy.triple.query][1] for analogy in seen.analogies]
    run.encoded.latents_MChw[after_rows] += 0.5
    assert validate(run, seen) != before


def test_validation_trains_nothing(folders):
    run = make_run(folders, train_section())
    for chosen in held_out(folders):
        validate(run, chosen)
    assert all(parameter.grad is None for parameter in run.variant.parameters.values())


def test_a_shuffled_exemplar_is_of_another_task_and_all_else_stays(folders):
    for chosen in held_out(folders):
        shuffled = chosen.shuffled
        assert shuffled.split == f"{chosen.split}_shuffled" and len(shuffled.analogies) == len(chosen.analogies) > 0
        for true, other in zip(chosen.analogies, shuffled.analogies, strict=True):
            assert other.triple.exemplar.split("-")[0] != true.triple.exemplar.split("-")[0]
            assert (other.id, other.task, other.triple.query) == (true.id, true.task, true.triple.query)
        assert shuffled == chosen.shuffled


def test_another_exemplar_is_of_another_task_and_another_instruction():
    rows = [{"id": f"v{i}", "task": f"t{i % 3}", "exemplar": f"e{i}", "instruction": f"do {i % 2}"} for i in range(12)]
    found = {row["id"]: other_exemplar(row, rows) for row in rows}
    by_exemplar = {row["exemplar"]: row for row in rows}
    assert len(set(found.values())) > 3, "always the same one"
    for row in rows:
        other = by_exemplar[found[row["id"]]]
        assert other["task"] != row["task"] and other["instruction"] != row["instruction"]
    assert other_exemplar(rows[0], [rows[0], rows[6]]) is None, "one task has no other"


def test_the_choice_depends_on_seed_and_ids_alone():
    rows = [HeldOut(f"v{i}", f"t{i % 3}", Triple("e", "q", ""), "o") for i in range(30)]
    chosen = choose(rows, "seen", 10, seed=1)
    assert len(chosen.analogies) == 10 and chosen == choose(rows[::-1], "seen", 10, seed=1)
    assert chosen != choose(rows, "seen", 10, seed=2)


def test_health_of_a_router_that_ignores_the_query(folders):
    """Equal keys give an even mix that no exemplar can change."""
    run = make_run(folders, train_section())
    seen, _ = held_out(folders)
    with torch.no_grad():
        run.variant.router["router.keys"].zero_()
    found = router_health(run, seen)
    assert found["effective_loras"] == pytest.approx(4.0) and found["unused_loras"] == 0.0
    assert found["mix_spread"] == pytest.approx(0.0, abs=1e-7)


def test_health_of_a_router_that_always_takes_one_lora(folders):
    run = make_run(folders, train_section())
    seen, _ = held_out(folders)
    with torch.no_grad():
        keys = run.variant.router["router.keys"]
        keys.zero_()
        projected = torch.einsum(
            "ldq,q->ld", run.variant.router["router.projection"], torch.ones(run.encoded.query_dim)
        )
        run.encoded.features_MD.fill_(1.0)
        keys[:, 2] = 1e4 * projected / projected.norm(dim=1, keepdim=True)
    found = router_health(run, seen)
    assert found["effective_loras"] == pytest.approx(1.0) and found["unused_loras"] == pytest.approx(0.75)


def test_steps_move_the_router(folders):
    run = make_run(folders, train_section())
    seen, _ = held_out(folders)
    before = router_health(run, seen)
    for step in range(3):
        take_step(run, step)
    assert router_health(run, seen) != before
