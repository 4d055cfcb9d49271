"""A judge in the filter stage: what happens to pairs without a verdict, and to a server that is away."""

import json

import pytest

from lorweb.data.scorers import judge_asking
from lorweb.data.shards import read_table
from lorweb.records import NOTE, load_scores
from pipelines import filter as stage
from pipelines._rows import in_process
from tests.data.judging import VERDICT, Answer, endpoint_judge, serving
from tests.pipelines.projects import POOL
from tests.pipelines.scorer_project import EMBEDDED, eight_candidates, told, use


@pytest.fixture
def few(project, monkeypatch):
    monkeypatch.setattr(judge_asking, "PAUSE_S", 0.01)
    return eight_candidates(project)


@pytest.mark.slow
def test_a_pair_without_a_verdict_leaves_only_where_a_grade_is_used(few):
    with serving([Answer("no idea")] * 3 + [Answer(VERDICT)]) as server:
        asking = {**endpoint_judge(server.url), "pool": POOL}
        use(few, EMBEDDED, asking)
        stage.main(in_process)
        kept, _ = told(few)
        own = [load_scores(row["scores"]) for row in kept]
        assert sorted(row["judge_invalid"] for row in own) == [0.0] * (len(own) - 1) + [1.0]
        assert sum("judge_quality" in row for row in own) == len(own) - 1
        notes = {row["id"]: json.loads(row["notes"]) for row in read_table(few / "data/pairs/notes", NOTE).to_pylist()}
        assert len(notes) == 8 and set(notes) > {row["id"] for row in kept[1:]}
        assert sorted(note["judge"]["judge"][:8] for note in notes.values()) == ["3 of 3 r", *["The cup "] * 7]
        asked = len(server.asked)
        use(few, EMBEDDED, asking, checks=[{"score": "judge_quality", "min": 4, "max": None, "edit_types": []}])
        stage.main(in_process)
        again, rejects = told(few)
        assert len(server.asked) == asked and len(again) == len(kept) - 1
        (reject,) = [row for row in rejects if row["check"] == "judge_invalid"]
        assert "no idea" in reject["reason"] and load_scores(reject["scores"])["judge_invalid"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "uses", [{"relative": ["judge_quality"]}, {"best": {"keep": 1, "score": "judge_overall"}}], ids=["relative", "best"]
)
def test_a_grade_that_is_no_check_counts_as_used_too(few, uses):
    with serving([Answer("no idea")] * 3 + [Answer(VERDICT)]) as server:
        use(few, EMBEDDED, {**endpoint_judge(server.url), "pool": POOL}, **uses)
        stage.main(in_process)
    assert [row["check"] for row in told(few)[1] if row["check"] != "duplicate"] == ["judge_invalid"]


@pytest.mark.slow
def test_a_server_that_was_away_is_asked_again_and_only_for_what_it_missed(few):
    with serving([Answer(VERDICT)] * 6 + [Answer(b"out of memory", 500)]) as server:
        asking = {**endpoint_judge(server.url), "pool": POOL}
        use(few, EMBEDDED, asking, max_error_rate=1.0)
        stage.main(in_process)
        assert [row["check"] for row in told(few)[1]] == ["error"] * 2
        assert "HTTP 500: out of memory" in told(few)[1][0]["reason"]
        use(few, EMBEDDED, asking, max_error_rate=0.1)
        with pytest.raises(SystemExit, match=r"2 of 8 rows were refused, more than filter\.max_error_rate"):
            stage.main(in_process)
        server.script[:] = [Answer(VERDICT)]
        asked = len(server.asked)
        stage.main(in_process)
        assert len(server.asked) == asked + 2 and not [row for row in told(few)[1] if row["check"] == "error"]
