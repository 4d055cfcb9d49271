"""The packaged scorer gives the numbers it always gave; and what any scorer may answer."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from lorweb.data.pixels import outline_features
from lorweb.data.rejects import Rejected
from lorweb.data.scorers.base import PairImages, Scored, ScorerFacts, check_facts, checked
from lorweb.data.scorers.build import describe
from lorweb.data.scorers.sides import DistinctImages, pair_vectors
from lorweb.data.scores import SafetyNet, score_pairs
from tests.data.scoring import entry, made, photos, scored

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/embedded_scores.json").read_text(encoding="utf-8"))
FACTS = ScorerFacts("mine", "1", ("x", "y"), ("enc",), ("enc",), hashes=True)
VECTORS = pair_vectors("enc", np.ones(3, np.float32), np.zeros(3, np.float32))
HASHES = {"before": "0" * 16, "after": "f" * 16}


def old_pairs():
    a, b, c = photos(96)
    images = [
        (a, ImageOps.invert(a)),
        (a, a.filter(ImageFilter.GaussianBlur(2))),
        (b, ImageOps.mirror(b)),
        (c, c),
    ]
    return [PairImages(x, y, "", "", "style") for x, y in images]


@pytest.mark.slow
def test_numbers_are_those_from_before_there_were_scorers():
    """Recorded from `score_pairs` when the filter stage called it itself."""
    answers = scored(old_pairs(), scorer="embedded")
    assert len(answers) == len(GOLDEN) == 4
    for found, old in zip(answers, GOLDEN, strict=True):
        assert set(found.scores) == set(old["scores"]) | {"cut"}
        for name, value in old["scores"].items():
            assert found.scores[name] == pytest.approx(value, rel=1e-4, abs=1e-6)
        assert found.hashes == old["hashes"]
        np.testing.assert_allclose(found.vectors["change.safety"][:8], old["change"], atol=2e-4)
        assert np.linalg.norm(found.vectors["change.safety"]) == pytest.approx(old["length"], rel=1e-3)


def test_they_are_score_pairs_to_the_bit():
    pairs = old_pairs()
    found = score_pairs(SafetyNet(), [pair.before for pair in pairs], [pair.after for pair in pairs])
    for i, answer in enumerate(scored(pairs, scorer="embedded")):
        assert answer.scores == found.scores[i]
        assert (answer.vectors["change.safety"] == found.direction[i]).all()
        assert (answer.vectors["before.layout"] == found.layout[0][i]).all()
        assert (answer.vectors["after.layout"] == found.layout[1][i]).all()
        assert (answer.vectors["before.outline"] == outline_features(pairs[i].before)).all()
        assert (answer.vectors["after.outline"] == outline_features(pairs[i].after)).all()


def test_a_pair_that_cannot_be_compared_costs_itself_alone():
    good = old_pairs()[0]
    small, wide = Image.new("RGB", (8, 8)), Image.new("RGB", (64, 32))
    pairs = [PairImages(small, small, "", "", "style"), good, PairImages(good.before, wide, "", "", "style")]
    first, second, third = scored(pairs, scorer="embedded")
    assert isinstance(second, Scored) and second.scores == scored([good], scorer="embedded")[0].scores
    assert first.check == third.check == "not_comparable" and "at least 11 px" in first.reason
    assert made(scorer="embedded")([]) == []


def test_facts_are_known_without_loading_and_are_what_is_answered():
    facts, scorer = describe(entry(scorer="embedded")), made(scorer="embedded")
    (found,) = scorer(old_pairs()[:1])
    assert set(found.scores) == set(facts.keys) == set(scorer.keys) and set(found.vectors) == set(facts.vectors)
    assert (scorer.name, scorer.revision) == (facts.name, facts.revision) == ("embedded", SafetyNet().revision)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (3, "gave a int, not a Scored"),
        (Scored({"x": 1.0}, VECTORS, HASHES), "gave no 'y', and no reason"),
        (Scored({"x": 1.0, "y": 2.0, "z": 1.0}, VECTORS, HASHES), "'z', which is none of its keys: x, y"),
        (Scored({"x": 1.0, "y": float("nan")}, VECTORS, HASHES), "gave nan for the score 'y'"),
        (Scored({"x": 1.0, "y": True}, VECTORS, HASHES), "gave True for the score 'y'"),
        (Scored({"x": 1.0, "y": 2}, {}, HASHES), r"gave the features \[\]"),
        (Scored({"x": 1.0, "y": 2}, {**VECTORS, "after.enc": np.full(3, 1e6, np.float32)}, HASHES), "below 60000"),
        (Scored({"x": 1.0, "y": 2}, {**VECTORS, "after.enc": np.zeros((1, 3), np.float32)}, HASHES), r"\[1, 3\]"),
        (Scored({"x": 1.0, "y": 2}, VECTORS, {"before": "0" * 16}), "must be 16 hex digits"),
    ],
)
def test_a_wrong_answer_costs_its_row(answer, words):
    pair = PairImages(Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8)), "", "", "style")
    good = Scored({"x": 1.0, "y": 2}, VECTORS, HASHES)
    lacking = Scored({"x": 1.0}, VECTORS, HASHES, lacks=Rejected("unsure", "no y"))
    found = checked([good, answer, lacking], [pair] * 3, FACTS)
    assert found[0] is good and found[2] is lacking and found[1].check == "bad_score"
    with pytest.raises(Rejected, match=words):
        raise found[1]
    with pytest.raises(ValueError, match="gave 1 answers to 3 pairs"):
        checked([good], [pair] * 3, FACTS)


def test_two_scorers_of_one_score_are_refused_with_both_names():
    other = ScorerFacts("other", "1", ("y",))
    with pytest.raises(ValueError, match=r"the score 'y' is given twice in filter\.scorers, by 'mine' and by 'other'"):
        check_facts([FACTS, other], [])
    with pytest.raises(ValueError, match=r"the feature 'change\.enc' is given twice"):
        check_facts([FACTS, ScorerFacts("other", "1", ("z",), ("enc",))], [])
    with pytest.raises(ValueError, match="the scorer 'mine' is given twice"):
        check_facts([FACTS, ScorerFacts("mine", "1", ("z",))], [])
    with pytest.raises(ValueError, match=r"the score 'direction' is given twice .* by 'the filter itself' and by 'o'"):
        check_facts([ScorerFacts("o", "1", ("direction",))], ["direction"])
    with pytest.raises(ValueError, match="gives a score 'my score'; use letters"):
        check_facts([ScorerFacts("o", "1", ("my score",))], [])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=8))
def test_distinct_images_put_back_together_are_the_pairs(colours):
    pairs = [PairImages(*(Image.new("RGB", (2, 2), (c, 0, 0)) for c in pair), "", "", "style") for pair in colours]
    distinct = DistinctImages.of(pairs)
    assert len({image.tobytes() for image in distinct.images}) == len(distinct.images)
    assert len(distinct.images) == len({c for pair in colours for c in pair})
    for pair, i, j in zip(pairs, distinct.before, distinct.after, strict=True):
        assert distinct.images[i].tobytes() == pair.before.tobytes()
        assert distinct.images[j].tobytes() == pair.after.tobytes()
