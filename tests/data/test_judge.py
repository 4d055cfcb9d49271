"""The judge: replies are read strictly, and a local model's go the whole way."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lorweb.data.scorers.base import PairImages
from lorweb.data.scorers.build import describe
from lorweb.data.scorers.judge_reply import GRADES, BadReply, Question, Verdict, parse_verdict
from tests.data.judging import NUMBERS, VERDICT
from tests.data.scoring import entry, made, photos, save_clip, save_judge, scored, some_pairs

REPLIES = {
    p.stem: p.read_text(encoding="utf-8") for p in sorted((Path(__file__).parent / "replies").glob("judge_*.txt"))
}
FAULTS = {
    "judge_talkative": "not JSON",
    "judge_cut_off": "not JSON",
    "judge_text_grade": "adherence is 8, not a whole number",
    "judge_half_grade": r"adherence is 8\.5, not a whole number",
    "judge_eleven": "adherence is 11, not a whole number from 1 to 10",
    "judge_zero": "adherence is 0, not",
    "judge_true": "adherence is true, not",
    "judge_missing_key": "'preservation' is missing or was not asked for",
    "judge_further_key": "'overall' is missing or was not asked for",
    "judge_key_twice": "a key comes twice",
    "judge_single_quotes": "not JSON",
    "judge_nan": "NaN is no JSON",
    "judge_list": "not an object",
    "judge_list_of_reasons": "reason is .*, not a text",
    "judge_trailing_comma": "not JSON",
    "judge_refusal": "not JSON .*I'm sorry",
    "judge_empty": "not JSON",
    "judge_fractions": "not JSON",
}


def test_every_written_reply_is_expected():
    assert set(REPLIES) == {*FAULTS, "judge_valid", "judge_fenced"}


def test_valid_replies():
    reason = "The cup is blue now and the table is as before."
    assert parse_verdict(REPLIES["judge_valid"]) == Verdict(8, 7, 9, reason)
    assert parse_verdict(REPLIES["judge_fenced"]) == Verdict(9, 8, 6, "Rain was added, but the sky lost its clouds.")


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_malformed_replies_are_refused_with_what_is_wrong(name):
    with pytest.raises(BadReply, match=FAULTS[name]):
        parse_verdict(REPLIES[name])


@given(
    st.text(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from([*GRADES, "reason", "x"]), x),
    ).map(json.dumps)
)
def test_nothing_but_a_bad_reply_escapes(text):
    try:
        verdict = parse_verdict(text)
    except BadReply as why:
        assert len(str(why)) < 400 and str(why).isprintable()
    else:
        assert all(1 <= getattr(verdict, name) <= 10 for name in GRADES)


def test_deep_nesting_is_no_crash():
    with pytest.raises(BadReply, match="not JSON"):
        parse_verdict("[" * 100_000)


def test_overall_is_the_geometric_mean():
    for grades in itertools.product((1, 4, 10), repeat=3):
        assert Verdict(*grades, "").overall == pytest.approx(np.prod(grades) ** (1 / 3))


def test_the_judge_sees_small_images_and_quoted_words():
    wide = Image.new("RGB", (200, 100))
    question = Question.about((wide, photos(32)[0]), 'make it "blue"\nignore this', 50)
    assert [image.size for image in question.images] == [(50, 25), (32, 32)]
    assert r'asked for as "make it \"blue\"\nignore this". Grade' in question.text
    assert '{"adherence": 1-10, "quality": 1-10, "preservation": 1-10, "reason": "one sentence"}' in question.text


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """One model that grades, one that chats."""
    folder = tmp_path_factory.mktemp("judges")
    return save_judge(folder / "good", VERDICT), save_judge(folder / "bad", "A very\nnice picture.")


def local(folder, **changes):
    return {"scorer": "judge", "model": str(folder), "endpoint": None, **NUMBERS, "temperature": 0.01, **changes}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_local_judge_grades(judges, dtype):
    answers = scored(some_pairs(), **local(judges[0], dtype=dtype))
    grades = {"judge_adherence": 8.0, "judge_quality": 4.0, "judge_preservation": 2.0}
    for found in answers:
        assert found.scores == {**grades, "judge_overall": pytest.approx(4.0), "judge_invalid": 0.0}
        assert found.notes == {"judge": "The cup is blue."} and found.lacks is None


@pytest.mark.slow
def test_a_judge_without_a_verdict_gives_no_grades(judges):
    (found, *_) = scored(some_pairs()[:1], **local(judges[1]))
    assert found.scores == {"judge_invalid": 1.0}
    assert (found.lacks.check, found.lacks.value) == ("judge_invalid", 3)
    assert "3 of 3 replies are no verdict" in found.lacks.reason and "A very nice picture." in found.lacks.reason


def test_seeds_come_from_the_pair_and_the_attempt(judges, monkeypatch):
    judge = made(**local(judges[1], temperature=5.0))
    asked = []
    inner = judge._ask
    monkeypatch.setattr(judge, "_ask", lambda question, seed: asked.append((seed, inner(question, seed))) or "no")
    pairs = some_pairs()[:2]
    first = judge(pairs)
    seeds = [seed for seed, _ in asked]
    assert len(seeds) == len(set(seeds)) == 6 and all(0 <= seed < 2**31 for seed in seeds)
    assert len({reply for _, reply in asked}) > 3  # at this temperature other seeds say other things
    again = list(asked)
    asked.clear()
    assert [found.notes for found in judge(pairs[1:])] == [found.notes for found in first[1:]]
    assert asked == again[3:]


def test_revision_covers_all_that_changes_grades(judges):
    revision = describe(entry(**local(judges[0]))).revision
    changed = [local(judges[1]), *(local(judges[0], **{name: 3}) for name in ("side", "max_new_tokens", "retries"))]
    changed.append(local(judges[0], temperature=1.0))
    assert len({revision, *(describe(entry(**values)).revision for values in changed)}) == 6
    pool = {"actors": 7, "cpus": 1, "gpus": 0, "batch_size": 1}
    assert describe(entry(**{**local(judges[0]), "pool": pool})).revision == revision


@pytest.mark.slow
def test_a_folder_that_is_no_judge_is_refused(judges, tmp_path):
    with pytest.raises(ValueError, match="does not load as a vision language model"):
        made(**local(save_clip(tmp_path / "clip")))
    (judges[1] / "chat_template.jinja").rename(tmp_path / "away")
    with pytest.raises(ValueError, match="has no chat template"):
        made(**local(judges[1]))
    (tmp_path / "away").rename(judges[1] / "chat_template.jinja")


def test_grayscale_and_odd_sizes_do_not_matter_to_the_judge(judges):
    a = photos()[0].resize((33, 70))
    (found,) = scored([PairImages(a, a, "nothing", "", "style")], **local(judges[0]))
    assert found.scores["judge_adherence"] == 8
