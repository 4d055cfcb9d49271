"""What training lacks is said: CPUs and GPUs, memory of a GPU, the checkpoint that would be published."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from lorweb.config import load_params
from lorweb.training.state import checkpoint_path, load_checkpoint, newest_whole
from lorweb.training.stopping import best_step
from pipelines._stage import StageFailed
from pipelines._train_driver import _check_resources
from pipelines._train_plan import variant_folder
from pipelines._train_resume import adopt
from pipelines._train_worker import _message, train_one
from pipelines.profile import merge
from pipelines.train import make_plan
from tests.pipelines.train_project import make_project

pytestmark = pytest.mark.slow

BEST = {"keep_best": "unseen", "publish": "best", "keep_checkpoints": 1, "checkpoint_every": 1, "validate_every": 1}
WORSE = {"optimizer": {"learning_rate": 5.0, "max_grad_norm": 1e9}}  # the later, the worse: the best is an early step


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A function that makes the plan of a small project after changes of its train section."""
    make_project(tmp_path, baselines=[])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    before = yaml.safe_load(Path("params.yaml").read_text())

    def changed(**changes):
        params = {**before, "train": merge(before["train"], changes)}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        return make_plan(load_params())

    return changed


@pytest.mark.ray
def test_what_ray_does_not_have_is_refused_where_it_cannot_grow(plan, ray_cluster, monkeypatch, capsys):
    import ray

    cpus = int(ray.cluster_resources()["CPU"])
    _check_resources(plan(workers=cpus, batch_size=cpus))
    with pytest.raises(StageFailed, match=rf"workers is {cpus + 1}, which takes {cpus + 1} CPUs, and Ray has {cpus}; "):
        _check_resources(plan(workers=cpus + 1, batch_size=cpus + 1))
    with pytest.raises(StageFailed, match=r"takes 1 GPUs, and Ray has 0; lower train.workers or train.gpus_per_worker"):
        _check_resources(plan(gpus_per_worker=1))
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    _check_resources(plan(gpus_per_worker=1))
    assert "waiting for the cluster to grow" in capsys.readouterr().err


def test_a_full_gpu_says_what_to_change():
    said = _message(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"))
    assert "Tried to allocate 2 GiB.);" in said and "lorweb plan" in said and "\n" not in said
    assert _message(ValueError("as it is")) == "as it is"


def test_the_work_folder_may_be_a_link_to_another_disk(plan, tmp_path_factory):
    Path(".work").symlink_to(tmp_path_factory.mktemp("scratch"))
    assert Path(plan().work).parents[2] == Path.cwd(), "workers go there"


def test_the_split_of_the_best_step_belongs_to_a_run_that_publishes_it(plan):
    assert plan(keep_best="seen").work == plan(keep_best="unseen").work
    assert plan(**BEST).work != plan(**{**BEST, "keep_best": "seen"}).work


@pytest.mark.filterwarnings("ignore:MLflow did not take")
def test_the_best_step_goes_with_an_adopted_training(plan, tmp_path):
    old = plan(**merge(BEST, WORSE))
    history = train_one(old, "lorweb")
    best = best_step(history.validation, "unseen")
    assert 0 < best < history.step, "the best step is not the last, or this shows nothing"
    new = plan(**merge(BEST, WORSE), steps=history.step + 1)
    source = shutil.copytree(old.work, tmp_path / "source")
    adopt(new, source, allow_mismatch=True)
    mine = variant_folder(new, "lorweb")
    assert newest_whole(mine)[0] == checkpoint_path(mine, history.step)
    load_checkpoint(checkpoint_path(mine, best), {**new.identity, "variant": "lorweb"})
    train_one(new, "lorweb")  # publishes the best one
    shutil.rmtree(mine)
    shutil.rmtree(checkpoint_path(source / "lorweb", best))
    with pytest.raises(StageFailed, match=rf"step {best} was the best .*set train.publish to last"):
        adopt(new, source, allow_mismatch=True)


@pytest.mark.filterwarnings("ignore:MLflow did not take")
def test_an_average_cannot_begin_or_end_amid_a_training(plan):
    old = plan(steps=2, checkpoint_every=2, validate_every=2)
    train_one(old, "lorweb")
    with pytest.raises(StageFailed, match=r"train\.ema was null and is 0\.9; begin anew"):
        adopt(plan(steps=2, checkpoint_every=2, validate_every=2, ema=0.9), Path(old.work), allow_mismatch=True)


@pytest.mark.filterwarnings("ignore:MLflow did not take")
def test_losses_on_other_held_out_data_name_no_best_step(plan, tmp_path):
    old = plan(**BEST, steps=3)
    train_one(old, "lorweb")
    source = shutil.copytree(old.work, tmp_path / "source")
    new = plan(**BEST, steps=4, validation_analogies=2)
    said = adopt(new, source, allow_mismatch=True)
    assert "no best step yet" in said[0] and "goes on from" in said[1]
    history = train_one(new, "lorweb")
    assert [row["step"] for row in history.validation if row["split"] == "unseen"] == [4]
