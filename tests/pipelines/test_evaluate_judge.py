"""A judge in the evaluate stage: what it is shown, what is made of its replies, and what happens when it is away."""

import json
import re
from pathlib import Path

import pytest
import yaml

from lorweb.config import parse_params
from lorweb.data.scorers import judge_asking
from lorweb.data.shards import read_table
from lorweb.evaluation.judging import JUDGED
from pipelines import evaluate
from pipelines._rows import in_process
from pipelines._stage import StageFailed
from tests.data.scoring import save_judge
from tests.evaluation.judges import NUMBERS, POOL, always_first, grade, judge_params, judging, likes_change, prefer
from tests.pipelines.evaluated import read_json
from tests.pipelines.projects import committed_params

pytestmark = pytest.mark.slow

MODELS = ["lorweb", "copy"]


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(judge_asking, "PAUSE_S", 0.01)


def test_a_judge_grades_and_prefers_and_is_asked_once(evaluated):
    with judging(likes_change) as (url, shown):
        judge = judge_params(url, graded=["lorweb", "copy"], rivals=["copy"])
        evaluated(models=[*MODELS, "base"], judge=judge)
        assert sorted(shown) == [4] * 20 + [5] * 20  # a, a', b and one or two answers; both orders
        found = read_json("reports/judge.json")
        evaluated()
        assert len(shown) == 40 and read_json("reports/judge.json") == found
        evaluated(judge={**judge, "graded": ["lorweb", "copy", "base"]})
        assert len(shown) == 50, "only what is new is asked"
    assert (found["asked"], found["valid"], found["invalid"], found["unanswered"]) == (40, 40, 0, 0)
    versus = found["preferences"]["seen"]["copy"]
    assert versus["wins"] == 4 and versus["losses"] == versus["ties"] == versus["invalid"] == 0
    assert versus["win_rate"]["mean"] == 1.0 and versus["wilson_95"][0] < 0.6 < versus["wilson_68"][1] <= 1.0
    assert versus["first_share"] == 0.5
    metrics = read_json("reports/metrics.json")
    assert (
        metrics["seen"]["lorweb"]["judge_accuracy"]["mean"] == 9
        and metrics["seen"]["copy"]["judge_accuracy"]["mean"] == 1
    )
    assert "judge_accuracy" not in found["grades"]["seen"].get("base", {}) and found["judge"]["endpoint"] == url
    page = Path("reports/index.html").read_text()
    judge = page[page.index('<h2 id="judge">') : page.index("</section>", page.index('<h2 id="judge">'))]
    assert (
        f"some-judge {found['judge']['revision']}" in judge and "50 asked, 50 valid, 0 invalid, 0 unanswered" in judge
    )
    assert re.search(r'"row">seen</th><td>copy of b</td><td><span class="mean">1\.000<.*<td>4</td><td>0</td>', judge)
    assert f"some-judge {found['judge']['revision']}</td>" in page, "a row of the facts"
    grades = [cell for cell in page.split("</td>") if "judge" not in cell and ">9.000<" in cell]
    assert len(grades) >= 5, "judge_accuracy of ours in every main cell"
    assert "| seen | copy | 1.000 |" in Path("reports/model_card.md").read_text()
    assert read_json("metrics/evaluate.json")["judge"]["asked"] == 50


def test_a_judge_that_always_says_one_prefers_nobody(evaluated):
    with judging(always_first) as (url, _):
        evaluated(models=MODELS, judge=judge_params(url, graded=[], rivals=["copy"]))
    for rivals in read_json("reports/judge.json")["preferences"].values():
        for versus in rivals.values():
            assert versus["wins"] == versus["losses"] == 0 and versus["ties"] > 0 and versus["first_share"] == 1.0
            assert versus["win_rate"]["mean"] == 0.5


def test_invalid_replies_are_asked_again_then_counted_and_never_guessed(evaluated):
    """Grades of b' come at the second attempt, those of the copy never; preferences are prose."""
    graded: dict[str, int] = {}

    def rule(images, request):
        if len(images) == 5:
            return 200, "I would say 1, clearly."
        key = images[3].tobytes().hex()
        graded[key] = graded.get(key, 0) + 1
        is_copy = images[3].tobytes() == images[2].tobytes()
        return 200, grade(0, 5) if is_copy else grade(8, 7) if graded[key] > 1 else "8/10"

    with judging(rule) as (url, shown):
        evaluated(models=MODELS, judge=judge_params(url, graded=["lorweb", "copy"], rivals=["copy"]))
        evaluated()
    found = read_json("reports/judge.json")
    assert (found["asked"], found["valid"], found["invalid"]) == (40, 10, 30) and found["invalid_replies"] == 70
    assert len(shown) == 80, "each question twice, and no finished one again"
    assert "copy" not in found["grades"]["seen"] and found["grades"]["seen"]["lorweb"]["judge_accuracy"]["n"] == 4
    versus = found["preferences"]["seen"]["copy"]
    assert versus["invalid"] == 4 and versus["win_rate"] is None and versus["wilson_68"] is None
    rows = read_table(Path("data/evaluation/judged"), JUDGED).to_pylist()
    assert {row["note"].split(":")[0] for row in rows if row["first"]} == {"2 of 2 replies are no verdict; the last"}


def test_a_judge_that_is_away_stops_the_stage_and_the_rest_is_kept(evaluated):
    broken = {"is": True}

    def rule(images, request):
        return (500, "") if broken["is"] and len(images) == 5 else (200, prefer(2) if len(images) == 5 else grade(3, 3))

    with judging(rule) as (url, shown):
        with pytest.raises(SystemExit, match=r"judge.max_unanswered = 0.0 allows; .*\n.*answered with HTTP 500"):
            evaluated(models=MODELS, judge=judge_params(url))
        broken["is"] = False
        before = shown.count(5)
        evaluated()
        assert shown.count(4) == 10, "what was graded is not asked again"
        assert shown.count(5) - before == 20
    assert read_json("reports/judge.json")["valid"] == 30


def test_some_silence_is_allowed_where_the_parameters_say_so_and_is_counted(evaluated):
    broken = {"is": True}

    def rule(images, request):
        return (503, "") if broken["is"] and len(images) == 5 else (200, prefer(1) if len(images) == 5 else grade(3, 3))

    with judging(rule) as (url, _):
        evaluated(models=MODELS, judge=judge_params(url, max_unanswered=0.9))
        found = read_json("reports/judge.json")
        assert (found["asked"], found["valid"], found["unanswered"]) == (30, 10, 20)
        versus = found["preferences"]["seen"]["copy"]
        assert (versus["unanswered"], versus["invalid"], versus["win_rate"]) == (4, 0, None)
        broken["is"] = False
        evaluated()
    assert read_json("reports/judge.json")["unanswered"] == 0


def test_a_stage_that_stops_for_another_reason_says_that_reason(evaluated):
    """As where a worker dies: faults of the runner have many lines too."""
    evaluated(models=MODELS)

    def execute(job, batches):
        if job.function != "judge":
            return in_process(job, batches)
        raise StageFailed("judge stopped: the actor died\nOut of memory")

    set_judge(judge_params("http://127.0.0.1:9/v1"))
    with pytest.raises(SystemExit, match=r"^evaluate: judge stopped: the actor died\nOut of memory$"):
        evaluate.main(execute)


def set_judge(judge):
    path = Path("params.yaml")
    params = yaml.safe_load(path.read_text())
    params["evaluate"]["judge"] = judge
    path.write_text(yaml.safe_dump(params))


def test_a_judge_from_a_folder(evaluated, tmp_path):
    reply = json.dumps({"explanation": "x", "accuracy": 8, "preservation": 4}, indent=1)
    folder = save_judge(tmp_path / "judge", reply)
    judge = {"model": str(folder), "endpoint": None, **NUMBERS, "temperature": 0.01, "side": 32}
    evaluated(models=MODELS, judge={**judge, "graded": ["lorweb"], "rivals": [], "max_unanswered": 0.0, "pool": POOL})
    found = read_json("reports/judge.json")
    assert found["valid"] == 10 and found["grades"]["seen"]["lorweb"]["judge_accuracy"]["mean"] == 8
    assert found["judge"]["endpoint"] is None and found["preferences"] == {}
    assert found["judge"]["model"] == "judge", "a folder is told by its name"
    for name in ("index.html", "judge.json", "model_card.md", "paired.json"):
        assert str(tmp_path) not in Path(f"reports/{name}").read_text(), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"judge": judge_params("http://h/v1", graded=["lorweb_identity"])}, "judge asks about lorweb_identity, which"),
        ({"judge": judge_params("http://h/v1", graded=[], rivals=[])}, "grades no model and compares with no rival"),
        ({"judge": judge_params("http://h/v1", rivals=["lorweb"])}, "judge.rivals names lorweb"),
        ({"judge": judge_params("http://me:secret@h/v1")}, "holds a user or a password"),
        ({"models": ["official"]}, "models names official, but official is null"),
        ({"official": "somewhere"}, "but models does not name official"),
        ({"perceptual": "lpips"}, "unknown backbone 'lpips'; did you mean 'lpips:PATH'"),
        ({"direction": "siglip:x"}, "unknown backbone 'siglip:x'; did you mean 'siglip2:PATH'"),
        ({"seeds": 0}, "evaluate.seeds is 0"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(changes, words):
    raw = {**committed_params(), "evaluate": {**committed_params()["evaluate"], **changes}}
    with pytest.raises(ValueError, match=words):
        parse_params(raw, "params.yaml")
