"""Deciding on stored evidence: the order of reasons, task-level scores, and what a changed parameter changes."""

import numpy as np
import pytest

from lorweb.config import Alike, Best, Check, Filter
from lorweb.data.decide import Evidence, PairPlace, decide, task_scores

COUNT = 12
RNG = np.random.default_rng(0)
PLACES = {f"p{i:02d}": PairPlace("t", "colour", f"source{i // 2}", f"s{i}") for i in range(COUNT)}
NAMES = list(PLACES)


def cfg(checks=(("change", 0.0, None),), best=None, distance=0, cosine=None, relative=()):
    made = [Check(score=score, min=low, max=high, edit_types=()) for score, low, high in checks]
    pool = {"actors": 1, "cpus": 1, "gpus": 0, "batch_size": 1}
    return Filter.model_validate(
        {
            "scorers": [{"scorer": "embedded", "pool": pool}],
            "relative": relative,
            "checks": made,
            "best": best,
            "duplicates": Alike(distance=distance, cosine=cosine),
            "max_error_rate": 0.5,
        }
    )


@pytest.fixture
def evidence():
    before = RNG.normal(size=(COUNT, 32)).astype(np.float32)
    after = (before + 3 * RNG.normal(size=32) + 0.2 * RNG.normal(size=(COUNT, 32))).astype(np.float32)
    change = after - before
    return Evidence(
        scores={name: {"change": 0.1 + 0.01 * i} for i, name in enumerate(NAMES)},
        changes={
            "first": lambda: zip(NAMES, change, strict=True),
            "second": lambda: zip(NAMES, -2 * change, strict=True),
        },
        spatial={"layout": lambda: zip(NAMES, before, after, strict=True)},
        content=lambda: zip(NAMES, before, after, strict=True),
        hashes={name: (1 << i, 1 << (63 - i)) for i, name in enumerate(NAMES)},
    )


def run(cfg, evidence):
    scores = task_scores(cfg, evidence, PLACES)
    return scores, decide(cfg, evidence, PLACES, scores)


def test_scores_of_the_task_are_added_by_encoder(evidence):
    scores, gone = run(cfg(relative=("change",)), evidence)
    assert gone == {}
    expected = {"change", *(f"{x}{y}" for x in ("direction", "magnitude", "edit") for y in ("", ".second")), "subject"}
    assert all(set(own) == expected | {"change.standing"} for own in scores.values())
    first = scores["p00"]
    assert first["direction"] == pytest.approx(first["direction.second"]) and first["direction"] > 0.5
    assert first["magnitude"] == pytest.approx(first["magnitude.second"])
    assert scores["p00"]["change.standing"] == pytest.approx(-scores["p11"]["change.standing"])
    assert evidence.scores["p00"] == {"change": 0.1}, "what was measured is not touched"


def test_a_check_comes_first_then_better_draws_then_duplicates(evidence):
    evidence.hashes["p03"] = evidence.hashes["p05"] = evidence.hashes["p01"]
    evidence.hashes["p00"] = evidence.hashes["p01"]
    wanted = cfg(checks=(("change", 0.105, None),), best=Best(keep=1, score="change"))
    _, gone = run(wanted, evidence)
    assert {name: why.check for name, why in gone.items()} == {
        "p00": "change_min",  # the better draw of its edit stays, and it is no duplicate of anything any more
        **dict.fromkeys(["p02", "p04", "p06", "p08", "p10"], "not_best"),
        "p03": "duplicate",
        "p05": "duplicate",
    }
    assert "pair p01" in gone["p03"].reason and gone["p02"].threshold == pytest.approx(0.13)


def test_the_same_content_is_found_by_features(evidence):
    streamed = list(evidence.content())
    twin = [*streamed[:7], ("p07", streamed[2][1] * 2, streamed[2][2] * 2), *streamed[8:]]
    same = Evidence(evidence.scores, evidence.changes, evidence.spatial, lambda: twin, evidence.hashes)
    _, gone = run(cfg(cosine=0.99), same)
    assert {name: (why.check, why.threshold) for name, why in gone.items()} == {"p07": ("same_content", 0.99)}
    assert run(cfg(cosine=None), same)[1] == {}


def test_a_changed_threshold_reads_no_feature_again(evidence):
    scores = task_scores(cfg(), evidence, PLACES)

    def never():
        raise AssertionError("deciding looked at features")

    blind = Evidence(evidence.scores, {"first": never}, never, never, evidence.hashes)
    for least in (0.0, 0.15, 0.2):
        gone = decide(cfg(checks=(("change", least, None), ("subject", -2.0, None))), blind, PLACES, scores)
        assert len(gone) == sum(own["change"] < least for own in scores.values())


def test_unknown_scores_are_named(evidence):
    with pytest.raises(
        ValueError, match=r"filter\.relative names the score 'chnage'; there are only change, direction"
    ):
        run(cfg(relative=("chnage",)), evidence)
    with pytest.raises(ValueError, match=r"filter\.best names the score 'quality'; there are only"):
        run(cfg(best=Best(keep=1, score="quality")), evidence)
