"""Under changed settings a training begins anew, or goes on from another one's checkpoint when a person says so."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lorweb.config import load_params
from lorweb.kontext.metadata import read_metadata
from lorweb.training.loop import Stopped
from lorweb.training.state import checkpoint_path, newest_whole, read_state
from pipelines._stage import StageFailed
from pipelines._train_plan import variant_folder
from pipelines._train_publish import finished_histories, publish
from pipelines._train_resume import adopt, earlier_run, other_training, remark, remember_run
from pipelines._train_worker import train_one
from pipelines.profile import merge
from pipelines.train import BASELINES, CANDIDATE, _options, _take_up, make_plan
from tests.pipelines.train_project import make_project
from tests.training.made import train_section

pytestmark = pytest.mark.slow

MIDDLE = 4 + 5 + 4  # questions up to step 5: validation, steps, validation


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A project whose training of the first variant was stopped after step 5 of 10. Copy it before changing it."""
    root = make_project(tmp_path_factory.mktemp("left"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        asks = iter(range(1000))
        with pytest.raises(Stopped) as stopped, pytest.warns(UserWarning, match="MLflow did not take"):
            train_one(replace(make_plan(load_params()), run_id="0" * 32), "lorweb", lambda: next(asks) >= MIDDLE)
        assert stopped.value.step == 5
    return root


@pytest.fixture
def project(left, monkeypatch):
    """It, and a function that makes the plan after changes of the train section."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(left)
    before = Path("params.yaml").read_text()
    folders = set(Path(".work/train").iterdir())

    def plan(**changes):
        params = yaml.safe_load(before)
        params["train"] = merge(params["train"], changes)
        Path("params.yaml").write_text(yaml.safe_dump(params))
        return make_plan(load_params())

    yield plan
    Path("params.yaml").write_text(before)
    for folder in set(Path(".work/train").iterdir()) - folders:
        shutil.rmtree(folder)


FASTER = {"optimizer": {"learning_rate": 0.02}}
DIFFERENCE = "train.optimizer.learning_rate was 0.01 and is 0.02"


def source(plan):
    return Path(plan().work)


def test_a_changed_setting_begins_anew_and_says_what_else_could_be_done(project):
    old, new = source(project), project(**FASTER)
    assert Path(new.work) != old and newest_whole(variant_folder(new, "lorweb"))[0] is None
    said = remark(new)
    assert str(old) in said and "step 5" in said and DIFFERENCE in said and "--allow-mismatch" in said
    assert remark(project()) is None, "an unchanged start goes on by itself"


def test_going_on_under_other_settings_is_refused_with_the_differences(project):
    old, new = source(project), project(**FASTER)
    with pytest.raises(StageFailed, match=rf"{DIFFERENCE}; restore them, or add --allow-mismatch"):
        adopt(new, old, allow_mismatch=False)
    assert not Path(new.work).exists()


def test_when_told_it_goes_on_and_the_model_says_so(project):
    old, new = source(project), project(**FASTER, baselines=[])
    (said,) = adopt(new, old, allow_mismatch=True)
    assert DIFFERENCE in said and str(checkpoint_path(old / "lorweb", 5)) in said
    assert earlier_run(new) is None, "another training is another MLflow run"
    remember_run(new, "0" * 32)
    with pytest.warns(UserWarning, match="MLflow did not take"):
        history = train_one(replace(new, run_id="0" * 32), "lorweb")
    (past,) = history.resumed
    assert history.step == 10 and past["step"] == 5 and DIFFERENCE in past["differences"]
    assert history.curves["learning_rate"][5] > 0.01 > history.curves["learning_rate"][4]
    publish(new, finished_histories(new), CANDIDATE, BASELINES)
    assert read_metadata(CANDIDATE).extra["resumed"] == [{"step": 5, "differences": past["differences"]}]
    (said,) = adopt(new, old, allow_mismatch=True)
    assert "goes on from its own" in said and "step-00000010" in said and str(old) in said


def test_the_command_takes_the_training_that_was_last(project):
    old, new = source(project), project(**FASTER)
    assert other_training(new) == old
    said = _take_up(new, _options().parse_args(["--allow-mismatch"]))
    assert DIFFERENCE in said[0] and "single_lora begins anew" in said[1]
    assert (
        read_state(checkpoint_path(variant_folder(new, "lorweb"), 5)).identity["train.optimizer.learning_rate"]
        == "0.02"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps": 3}, "has 5 steps already, and train.steps is 3"),
        (
            {"basis": {"n_loras": 8}},
            "holds other weights than these settings ask for: train.basis.n_loras was 4 and is 8",
        ),
    ],
    ids=["steps", "basis"],
)
def test_what_cannot_go_on_is_refused_although_told(project, changes, reason):
    old, new = source(project), project(**changes)
    with pytest.raises(StageFailed, match=reason):
        adopt(new, old, allow_mismatch=True)


def test_a_folder_without_checkpoints_is_refused(project, tmp_path):
    with pytest.raises(StageFailed, match="has no whole checkpoint of lorweb"):
        adopt(project(**FASTER), tmp_path, allow_mismatch=True)


def test_a_damaged_newest_checkpoint_is_named_and_skipped(project, tmp_path):
    old = shutil.copytree(source(project), tmp_path / "old")
    shutil.copytree(checkpoint_path(old / "lorweb", 5), checkpoint_path(old / "lorweb", 7))
    (checkpoint_path(old / "lorweb", 7) / "state.json").write_text("{}")
    said = adopt(project(**FASTER), old, allow_mismatch=True)
    assert "skipped the damaged checkpoint" in said[0] and "step-00000007" in said[0] and "step-00000005" in said[1]


def test_a_copied_training_goes_on_with_its_own_mlflow_run(project, tmp_path):
    plan = project()
    away = shutil.move(plan.work, tmp_path / "away")
    try:
        assert earlier_run(plan) is None
        said = adopt(plan, Path(away), allow_mismatch=False)
        assert "under the same settings" in said[0]
        assert earlier_run(plan) == "0" * 32 and earlier_run(replace(plan, tracking="http://elsewhere")) is None
        facts = json.loads((checkpoint_path(variant_folder(plan, "lorweb"), 5) / "state.json").read_text())["facts"]
        assert "resumed" not in facts
    finally:
        shutil.rmtree(plan.work, ignore_errors=True)
        shutil.move(away, plan.work)


def test_the_commands_of_the_guide_are_understood():
    guide = (Path(__file__).parents[2] / "docs" / "training_state.md").read_text()
    shown = re.findall(r"^python -m pipelines\.train (.+)$", guide, re.M)
    assert len(shown) == 3
    found = [_options().parse_args(words.split()) for words in shown]
    assert [(bool(given.resume_from), given.allow_mismatch) for given in found] == [(1, 0), (1, 1), (0, 1)]
    keys = yaml.safe_load(re.search(r"```yaml\n(.*?)```", guide, re.S)[1])["train"]
    section = train_section(**keys)
    assert {key: getattr(section, key) for key in keys} == keys and section.keep_best == "unseen"
