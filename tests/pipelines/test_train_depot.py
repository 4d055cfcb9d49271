"""A training whose nodes share nothing but a store, without Ray: what a driver in an empty folder knows and takes."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lorweb.config import load_params
from lorweb.kontext.metadata import read_metadata
from lorweb.storage.places import NODE_FOLDER
from lorweb.storage.store import Store
from lorweb.training.loop import Stopped
from pipelines._stage import StageFailed
from pipelines._train_depot import come_to_data, depot_of, put_data, take_in
from pipelines._train_plan import variant_folder
from pipelines._train_publish import finished_histories, publish
from pipelines._train_resume import adopt, earlier_run, other_training, remark, remember_run
from pipelines._train_worker import train_one
from pipelines.profile import merge
from pipelines.train import BASELINES, CANDIDATE, _options, _take_up, make_plan
from tests.pipelines.projects import contents
from tests.pipelines.train_project import make_project

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:MLflow did not take")]
MIDDLE = 4 + 5 + 4  # questions up to step 5: validation, steps, validation
FASTER = {"optimizer": {"learning_rate": 0.02}, "baselines": []}
DIFFERENCE = "train.optimizer.learning_rate was 0.01 and is 0.02"


def plan_of(root, store, **changes):
    """The plan of the project in the working directory after changes of the train section."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["storage"] = {"uri": str(store) if store else None, "options": {}}
    params["train"] = merge(params["train"], changes)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return replace(make_plan(load_params()), run_id="0" * 32)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A project and its store: training was stopped after step 5 of 10, and the project's work folder is gone."""
    root, store = (tmp_path_factory.mktemp(name) for name in ("project", "store"))
    make_project(root, baselines=[])
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        plan, asks = plan_of(root, store), iter(range(1000))
        remember_run(plan, "0" * 32)
        with pytest.raises(Stopped) as stopped:
            train_one(plan, "lorweb", lambda: next(asks) >= MIDDLE)
        assert stopped.value.step == 5
        shutil.rmtree(root / ".work")
    return root, store


@pytest.fixture
def project(left, tmp_path, monkeypatch):
    """It, in a new folder, and a copy of the store; makes plans of it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root, store = (Path(shutil.copytree(folder, tmp_path / name)) for name, folder in zip("ps", left, strict=True))
    monkeypatch.chdir(root)
    return lambda **changes: plan_of(root, store, **changes)


def test_from_an_empty_folder_it_goes_on_and_publishes_what_a_training_without_a_store_does(project, monkeypatch):
    plan = project()
    assert remark(plan) is None and earlier_run(replace(plan, tracking="http://elsewhere")) is None
    train_one(plan, "lorweb")
    shutil.rmtree(".work")
    take_in(plan)
    histories = finished_histories(plan)
    assert histories["lorweb"].step == 10
    publish(plan, histories, CANDIDATE, BASELINES)
    found = contents(Path("models"))
    assert len(found) >= 2 and sorted(p.name for p in variant_folder(plan, "lorweb").glob("sheets/*")) == [
        f"step-{step:08d}.png" for step in (5, 10)
    ]
    plain = plan_of(Path(), None)
    assert Path(plain.work).name == Path(plan.work).name and plain.store is None
    shutil.rmtree(".work")
    train_one(plain, "lorweb")
    publish(plain, finished_histories(plain), CANDIDATE, BASELINES)
    assert contents(Path("models")) == found


def test_the_mlflow_run_is_known_from_the_store(project):
    plan = project()
    assert earlier_run(plan) is None, "its database was another"
    remember_run(plan, "1" * 32)
    assert earlier_run(plan) == "1" * 32 and not Path(plan.work).exists()


def test_under_other_settings_it_says_and_does_the_same_as_in_a_folder(project):
    old, new = project(), project(**FASTER)
    assert other_training(new).name == Path(old.work).name != Path(new.work).name
    said = remark(new)
    assert "stands unfinished at step 5" in said and DIFFERENCE in said
    with pytest.raises(StageFailed, match=rf"{DIFFERENCE}; restore them, or add --allow-mismatch"):
        adopt(new, Path(old.work), allow_mismatch=False)
    assert depot_of(new, "lorweb").steps() == []
    (said,) = _take_up(new, _options().parse_args(["--allow-mismatch"]))
    assert DIFFERENCE in said and f"{depot_of(old, 'lorweb').where(5)}, under other settings" in said
    (said,) = adopt(new, Path(old.work), allow_mismatch=True)
    assert "goes on from its own" in said and not Path(".work").exists()
    history = train_one(new, "lorweb")
    take_in(new)
    publish(new, finished_histories(new), CANDIDATE, BASELINES)
    assert [row["step"] for row in history.resumed] == [5]
    assert read_metadata(CANDIDATE).extra["resumed"] == [{"step": 5, "differences": [DIFFERENCE]}]
    assert remark(project(optimizer={"learning_rate": 0.03})) is None, "nothing is said of a finished training"


def test_a_worker_finds_all_it_reads_in_a_mirror_and_a_lost_file_is_named(project, tmp_path, monkeypatch):
    plan = put_data(project())
    monkeypatch.setenv(NODE_FOLDER, str(tmp_path / "node"))
    monkeypatch.setattr("lorweb.storage.places._bound", [])
    before, base = contents(Path("data")), contents(Path(plan.base))
    assert len(before) > 5 and len(base) > 5
    monkeypatch.chdir(tmp_path)  # undone at the end, wherever the worker has gone
    come_to_data(plan)
    assert contents(Path("data")) == before and contents(Path(plan.base_folder)) == base
    shutil.rmtree(tmp_path / "node")
    (lost,) = [
        key for key in Path(plan.store.uri).rglob("blobs/*/*") if key.read_bytes() == before["encoded/pairs.parquet"]
    ]
    lost.unlink()
    with pytest.raises(OSError, match=r"lacks blobs/.* should hold .*; submit the stage again"):
        come_to_data(plan)


def test_a_store_that_takes_nothing_is_one_sentence(project, tmp_path):
    (tmp_path / "file").write_text("in the way")
    plan = replace(project(), storage={"uri": str(tmp_path / "file"), "options": {}})
    assert plan.store == Store(str(tmp_path / "file"), {})
    with pytest.raises(OSError, match=r"cannot .* the store .*file .*; check that it can be reached"):
        put_data(plan)
