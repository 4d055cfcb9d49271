"""Sharded training state and a sharded base against none: one, two and four gloo processes at one global batch."""

import pytest

from lorweb.training import state
from tests.training.made import equal, write_data
from tests.training.sharded import MODES, STEPS, launch, stepped, trained

TOLERANCE = 1e-4  # relative, of losses: sums in another order, grown by ten steps at a high learning rate
SHARDED = [mode for mode in MODES if mode != "none"]


def two(root):
    """All that two processes do together."""
    found = {mode: stepped(root, mode) for mode in MODES}
    found["whole"] = trained(root, "whole-all", "all")
    found["stopped"] = {mode: trained(root, f"resumed-{mode}", mode, stop_at=5) for mode in SHARDED}
    found["resumed"] = {mode: trained(root, f"resumed-{mode}", mode) for mode in SHARDED}
    found["left"] = trained(root, "two-then-one", "zero1", stop_at=5)
    found["joined"] = trained(root, "one-then-two", "zero2")
    return found


def four(root):
    return {mode: stepped(root, mode) for mode in MODES}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What one, two and four processes have computed: {workers: [of each rank]}."""
    root = tmp_path_factory.mktemp("sharded")
    write_data(root)
    alone = {"none": stepped(root, "none"), "all": stepped(root, "all"), "whole": trained(root, "whole", "none")}
    assert trained(root, "one-then-two", "none", stop_at=5) == {"stopped": 5}
    pair = launch(two, 2, root)
    assert [rank["left"] for rank in pair] == [{"stopped": 5}] * 2
    alone["taken over"] = trained(root, "two-then-one", "none")
    return {1: [alone], 2: pair, 4: launch(four, 4, root), "root": root}


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the first test waits for all processes


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("mode", list(MODES))
def test_losses_do_not_know_how_many_workers_there_are(found, workers, mode):
    alone = found[1][0]["none"]
    for rank in found[workers]:
        assert rank[mode]["losses"] == found[workers][0][mode]["losses"]
        assert rank[mode]["losses"] == pytest.approx(alone["losses"], rel=TOLERANCE)
        assert rank[mode]["norms"] == pytest.approx(alone["norms"], rel=1e-3)
        assert equal(rank[mode]["weights"], found[workers][0][mode]["weights"])


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("mode", ["zero1", "base"])
def test_sharing_out_moments_or_the_base_changes_no_bit(found, workers, mode):
    none, shared = found[workers][0]["none"], found[workers][0][mode]
    assert shared["losses"] == none["losses"] and shared["norms"] == none["norms"]
    assert equal(shared["weights"], none["weights"])


def test_with_one_worker_nothing_is_shared_out(found):
    assert found[1][0]["all"]["losses"] == found[1][0]["none"]["losses"]
    assert equal(found[1][0]["all"]["weights"], found[1][0]["none"]["weights"])


@pytest.mark.parametrize("workers", [2, 4])
def test_each_worker_keeps_its_share(found, workers):
    """A fiftieth above the fair one at most."""
    alone = found[1][0]["none"]
    for mode, what in {"zero1": "moments", "zero2": "moments", "all": "gradients", "base": "frozen"}.items():
        kept = [rank[mode][what] / alone[what] for rank in found[workers]]
        print(workers, mode, what, [round(share, 4) for share in kept])
        assert max(kept) < 1.02 / workers, (mode, what, kept)
        assert sum(kept) >= 1 and all(rank["none"][what] == alone[what] for rank in found[workers])


@pytest.mark.parametrize("mode", SHARDED)
def test_five_steps_and_a_stop_and_five_more_are_ten_bit_for_bit(found, mode):
    for rank in found[2]:
        assert rank["stopped"][mode] == {"stopped": 5}
        resumed = rank["resumed"][mode]
        assert len(resumed["losses"]) == STEPS and resumed["losses"] == rank[mode]["losses"]
        assert equal(resumed["weights"], rank[mode]["weights"])


def test_the_last_checkpoint_of_a_resumed_run_has_the_same_bytes(found):
    """Weights, average, moments and curves; rank 0 wrote them, from both."""
    files = [state.checkpoint_path(found["root"] / f"{name}-all", STEPS) for name in ("whole", "resumed")]
    first, second = (file.joinpath("tensors.safetensors").read_bytes() for file in files)
    assert first == second
    validation = [found[2][0]["whole"]["validation"], found[2][0]["resumed"]["all"]["validation"]]
    assert validation[0] == validation[1] and len(validation[0]) == 3 * 4


def test_a_checkpoint_knows_no_sharding(found):
    """Two sharded workers stop and one unsharded goes on, and the reverse; it holds the same tensors."""
    alone = found[1][0]
    assert alone["taken over"]["losses"] == pytest.approx(alone["whole"]["losses"], rel=TOLERANCE)
    for rank in found[2]:
        assert rank["joined"]["losses"] == pytest.approx(alone["whole"]["losses"], rel=TOLERANCE)
        assert rank["joined"]["losses"][:5] == alone["whole"]["losses"][:5], "what was done alone is kept as it was"
    kept = [
        state.load_checkpoint(state.newest_whole(found["root"] / name)[0], {"config": "1"}).tensors
        for name in ("whole", "resumed-zero1", "resumed-zero2", "resumed-base")
    ]
    assert len(kept[0]) > 150
    for tensors in kept[1:]:
        assert {name: value.shape for name, value in tensors.items()} == {n: v.shape for n, v in kept[0].items()}
