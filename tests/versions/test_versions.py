"""Going back to an older version by git and by parameters, here and in another clone; what collection takes away."""

from pathlib import Path

import pytest
import yaml

from tests.versions.toy import dvc, git, ran, save, write_params

pytestmark = pytest.mark.slow
PIPELINE = Path(__file__).parents[2] / "dvc.yaml"


@pytest.fixture
def two_versions(toy, monkeypatch):
    """v1 and v2, both pushed by `python -m pipelines.push` to a folder."""
    from pipelines import push

    dvc(toy, "remote", "add", "--default", "store", "../store")
    save(toy, "shared")
    monkeypatch.setattr("sys.argv", ["push"])
    push.main()
    write_params(toy, version=2)
    dvc(toy, "repro")
    save(toy, "v2")
    push.main()
    return toy


def content(folder):
    names = ["model.bin", "metrics/make.json", *(f"data/pairs/part-{i:05}.parquet" for i in range(3))]
    return {name: (folder / name).read_bytes() for name in names}


def test_back_and_forth_by_git(two_versions):
    new, runs = content(two_versions), ran(two_versions)
    git(two_versions, "checkout", "--quiet", "shared")
    dvc(two_versions, "checkout")
    old = content(two_versions)
    assert old["model.bin"] != new["model.bin"]
    dvc(two_versions, "repro")
    assert ran(two_versions) == runs and content(two_versions) == old
    git(two_versions, "checkout", "--quiet", "v2")
    dvc(two_versions, "checkout")
    assert content(two_versions) == new


def test_back_by_parameters_in_another_clone(two_versions, tmp_path, monkeypatch):
    """No tag is needed: what anybody has once run, and pushed, comes back when the parameters do."""
    git(two_versions, "checkout", "--quiet", "shared")
    dvc(two_versions, "checkout")
    old = content(two_versions)
    git(two_versions, "checkout", "--quiet", "v2")
    git(tmp_path, "clone", "--quiet", str(two_versions), "two")
    two = tmp_path / "two"
    monkeypatch.chdir(two)
    dvc(two, "pull", "--run-cache")
    write_params(two, version=1)
    dvc(two, "repro", "--pull")
    assert ran(two) == [] and content(two) == old
    write_params(two, version=3)
    dvc(two, "repro", "--pull")
    assert ran(two) == ["make", "use"], "the count of runs says nothing"


def test_dvcs_own_push_leaves_out_the_metrics_of_earlier_runs(toy, tmp_path, monkeypatch):
    """Why there is pipelines.push; if this fails, DVC does it by itself."""
    dvc(toy, "remote", "add", "--default", "store", "../store")
    save(toy, "shared")
    dvc(toy, "push", "--run-cache")
    write_params(toy, version=2)
    dvc(toy, "repro")
    save(toy, "v2")
    dvc(toy, "push", "--run-cache")
    git(tmp_path, "clone", "--quiet", str(toy), "two")
    two = tmp_path / "two"
    monkeypatch.chdir(two)
    dvc(two, "pull", "--run-cache")
    write_params(two, version=1)
    dvc(two, "repro", "--pull")
    assert ran(two) == ["make"]


def test_push_without_a_remote_is_one_sentence(toy, monkeypatch):
    from pipelines import push

    monkeypatch.setattr("sys.argv", ["push"])
    with pytest.raises(SystemExit, match="no remote"):
        push.main()


def test_what_collection_keeps(two_versions, verify):
    def objects():
        return {path for path in Path(".dvc/cache/files").rglob("*") if path.is_file()}

    everything = objects()
    dvc(two_versions, "gc", "--all-branches", "--all-tags", "--force")
    both = objects()
    assert len(both) < len(everything), "the metrics of runs are in no version"
    git(two_versions, "checkout", "--quiet", "shared")
    dvc(two_versions, "checkout")
    assert verify()[0] == 0, "a tag keeps its version"
    git(two_versions, "checkout", "--quiet", "v2")
    dvc(two_versions, "checkout")
    dvc(two_versions, "gc", "--workspace", "--force")
    assert objects() < both and verify()[0] == 0
    git(two_versions, "checkout", "--quiet", "shared")
    dvc(two_versions, "pull")
    assert verify()[0] == 0, "what the remote has comes back"


def test_what_was_never_pushed_is_kept(two_versions, verify):
    write_params(two_versions, version=3)
    dvc(two_versions, "repro")
    save(two_versions, "v3")
    git(two_versions, "checkout", "--quiet", "v2")
    dvc(two_versions, "checkout")
    dvc(two_versions, "gc", "--all-commits", "--not-in-remote", "--force")
    assert verify()[1].count("cache     missing") == 4, "what the remote has was kept: source, pairs, page, model"
    git(two_versions, "checkout", "--quiet", "v3")
    dvc(two_versions, "fetch", "gather")  # which v3 has in common with v2
    dvc(two_versions, "checkout", "--force")
    assert verify()[0] == 0


def test_a_released_folder_is_got_and_imported_and_updated(two_versions, verify, tmp_path, monkeypatch):
    registry, other = str(two_versions), tmp_path / "other"
    git(two_versions, "checkout", "--quiet", "shared")
    dvc(two_versions, "checkout")
    old = content(two_versions)["data/pairs/part-00001.parquet"]
    git(two_versions, "checkout", "--quiet", "v2")
    dvc(two_versions, "checkout")
    new = content(two_versions)["data/pairs/part-00001.parquet"]
    other.mkdir()
    monkeypatch.chdir(other)
    dvc(other, "get", registry, "data/pairs", "--rev", "shared", "--out", "pairs")
    assert Path("pairs/part-00001.parquet").read_bytes() == old
    git(other, "init", "--quiet")
    dvc(other, "init")
    dvc(other, "import", registry, "data/pairs", "--rev", "shared", "--out", "given")
    assert Path("given/part-00001.parquet").read_bytes() == old and verify()[0] == 0
    dvc(other, "update", "given.dvc", "--rev", "v2")
    assert Path("given/part-00001.parquet").read_bytes() == new and verify()[0] == 0
    Path("given/part-00001.parquet").unlink()
    assert "dvc checkout --force given" in verify()[1]


def test_a_released_folder_stands_in_for_the_stages_before_it(two_versions, tmp_path, monkeypatch):
    """Neither their inputs nor their other outs need be here."""
    git(tmp_path, "clone", "--quiet", str(two_versions), "two")
    two = tmp_path / "two"
    monkeypatch.chdir(two)
    dvc(two, "get", str(two_versions), "data/pairs", "--rev", "shared", "--out", "data/pairs")
    dvc(two, "repro", "--downstream", "use")
    assert ran(two) == ["use"] and not (two / "data/source.bin").exists() and not (two / "reports/make.html").exists()
    assert (two / "model.bin").read_bytes()[:2] == b"\x00\x01"
    (used,) = [dep for dep in locked(two, "use")["deps"] if dep["path"] == "data/pairs"]
    (made,) = [out for out in locked(two, "make")["outs"] if out["path"] == "data/pairs"]
    assert used["md5"] != made["md5"], "what was used is told apart from what the stage made here"
    dvc(two, "repro")
    assert ran(two) == ["use", "gather", "make", "use"], "without --downstream the stages before it run after all"


def locked(folder, stage):
    return yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"][stage]


@pytest.mark.parametrize(
    ("first", "given"),
    [
        ("assemble", ["data/pairs"]),
        ("encode", ["data/analogies", "data/pairs"]),
        ("train", ["data/analogies", "data/encoded", "data/pairs"]),
    ],
)
def test_what_has_to_be_given_to_start_at_a_stage(first, given):
    """The guide names these folders; all else that later stages read, they make or git has."""
    stages = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"]
    later = dict(list(stages.items())[list(stages).index(first) :])
    read = {dep for stage in later.values() for dep in stage["deps"] if dep.split("/")[0] in {"data", "models"}}
    assert sorted(read - {out for stage in later.values() for out in stage["outs"] if isinstance(out, str)}) == given


def test_dvc_records_the_runs_of_every_stage_but_promote():
    """It does not where an out that git keeps is neither metric nor plot: old parameters would bring nothing back."""
    stages = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"]
    unrecorded = [name for name, stage in stages.items() if any(isinstance(out, dict) for out in stage["outs"])]
    assert unrecorded == ["promote"]
