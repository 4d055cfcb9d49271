"""The train stage with everything shared out between two Ray workers."""

import pytest

from lorweb.config import load_params
from pipelines._train_plan import variant_folder
from pipelines._train_publish import finished_histories
from pipelines.train import make_plan
from tests.pipelines.test_train_options import trained
from tests.pipelines.train_project import logged_once, make_project, run_train, weights

SHARED = {"workers": 2, "sharding": "zero2", "shard_base": True, "gradient_checkpointing": True, "ema": 0.9}


@pytest.mark.ray
def test_two_workers_that_share_everything_publish_what_one_alone_does(tmp_path, monkeypatch):
    """Sheets and the last checkpoint's weights too; the work folder is that of an unsharded run."""
    alone, history = trained(tmp_path / "alone", monkeypatch, ema=0.9)
    project = make_project(tmp_path / "shared", **SHARED)
    run_train(project)
    assert len(weights(project)) == 2
    logged_once(project, 10)
    monkeypatch.chdir(project)
    plan = make_plan(load_params())
    for name, found in finished_histories(plan).items():
        sheets = sorted(path.name for path in (variant_folder(plan, name) / "sheets").iterdir())
        assert sheets == ["step-00000005.png", "step-00000010.png"]
        if name == "lorweb":
            assert found.curves["loss"] == pytest.approx(history.curves["loss"], rel=1e-4)
            measured = [row["loss"] for row in found.validation]
            assert measured == pytest.approx([row["loss"] for row in history.validation], rel=1e-4)
    assert {**plan.identity, "base": ""}.keys() == {**alone.identity, "base": ""}.keys()
