"""The table over experiments: what it takes from git, what it leaves out, how it is ordered and written."""

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines._experiments import Experiment, Measure, Tree, is_current, leaves, measured
from pipelines.experiments import as_csv, as_markdown, as_table, differing, ordered, sort_key

PARAMS = {"train": {"steps": 4, "basis": {"n_loras": 2}, "eps": 1e-06}}
LOCK = {
    "train": {
        "deps": [{"path": "data/encoded", "md5": "aa"}, {"path": "pipelines/train.py", "md5": "00"}],
        "params": {"params.yaml": {"train": PARAMS["train"]}},
        "outs": [{"path": "models/candidate", "md5": "bb"}],
    },
    "encode": {"outs": [{"path": "data/encoded", "md5": "aa"}]},
    "evaluate": {"deps": [{"path": "models/candidate", "md5": "bb"}], "outs": []},
}


def changed(path: str, value: object) -> dict:
    """The lock with one value at a dotted place replaced."""
    lock = json.loads(json.dumps(LOCK))
    *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")]
    at = lock
    for part in parents:
        at = at[part]
    at[last] = value
    return lock


def test_numbers_count_if_their_stage_ran_on_what_is_there():
    assert is_current("evaluate", LOCK, PARAMS) and is_current("train", LOCK, PARAMS)
    assert not is_current("promote", LOCK, PARAMS)
    other_model = changed("train/outs/0/md5", "cc")
    assert is_current("train", other_model, PARAMS) and not is_current("evaluate", other_model, PARAMS)
    assert not is_current("evaluate", changed("encode/outs/0/md5", "cc"), PARAMS), "two stages back"
    assert not is_current("train", LOCK, {"train": {**PARAMS["train"], "steps": 5}})
    assert not is_current("evaluate", LOCK, {"train": {**PARAMS["train"], "steps": 5}})


def test_a_revision_gives_its_numbers_with_their_intervals(tmp_path):
    values = {"mse_to_truth": {"mean": 0.05, "low": 0.04, "high": 0.06}}
    gap = {"exemplar gap of lorweb (shuffled minus true)": {"unseen": {"mean": 0.02, "low": -0.01, "high": 0.05}}}
    files = {
        "dvc.lock": yaml.safe_dump({"stages": LOCK}).replace("1.0e-06", "1e-06"),
        "params.yaml": yaml.safe_dump(PARAMS),
        "metrics/train.json": json.dumps({"lorweb": {"parameters": 10, "validation_seen": 0.5}}),
        "reports/metrics.json": json.dumps({"seen": {"lorweb": values}, "unseen": {"base": values}}),
        "reports/paired.json": json.dumps({"paired": gap}),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert "1e-06" in files["dvc.lock"]
    found = measured(Tree(tmp_path, ""))
    assert found == {
        "trained values": Measure(10),
        "validation seen": Measure(0.5),
        "mse_to_truth seen": Measure(0.05, 0.04, 0.06),
        "exemplar gap unseen": Measure(0.02, -0.01, 0.05),
    }
    (tmp_path / "dvc.lock").unlink()
    assert measured(Tree(tmp_path, "")) == {}


def test_entries_of_lists_go_by_their_number():
    tree = {"checks": [{"score": "a", "min": 0.1}, {"score": "b", "min": None}], "names": ["x", "y"], "none": []}
    assert dict(leaves(tree)) == {
        "checks.0.score": '"a"', "checks.0.min": "0.1", "checks.1.score": '"b"', "checks.1.min": "null",
        "names": '["x", "y"]', "none": "[]",
    }  # fmt: skip


def row(name: str, b: str, measures: dict[str, Measure], state: str = "Success") -> Experiment:
    return Experiment(name, state, {"a": str(len(name)), "b": json.dumps(b), "same": "0"}, measures)


ROWS = [
    row("one", "x|y", {"loss": Measure(0.3), "trained values": Measure(9)}),
    row("two_", "z", {"loss": Measure(0.2), "exemplar gap seen": Measure(0.1, 0.0, 0.2)}),
    row("three", "z", {}, "Failed"),
    row("fourth", "z", {"loss": Measure(0.4), "exemplar gap seen": Measure(0.3, 0.2, 0.4)}),
]


def test_the_best_comes_first_and_what_has_no_number_last():
    assert differing(ROWS) == ["a", "b"]
    assert [row.name for row in ordered(ROWS, sort_key(ROWS, None))] == ["two_", "one", "fourth", "three"]
    assert [row.name for row in ordered(ROWS, sort_key(ROWS, "exemplar gap seen"))] == [
        "fourth",
        "two_",
        "one",
        "three",
    ]
    with pytest.raises(
        ValueError, match="no experiment has 'speed'; there are: trained values, loss, exemplar gap seen"
    ):
        sort_key(ROWS, "speed")
    assert sort_key(ROWS[2:3], None) == ""


def test_it_is_written_in_full():
    header, *rows = csv.reader(io.StringIO(as_csv(ROWS)))
    assert header == [
        "experiment", "state", "a", "b", "trained values", "loss", "exemplar gap seen", "exemplar gap seen low",
        "exemplar gap seen high",
    ]  # fmt: skip
    assert rows[0] == ["one", "Success", "3", "x|y", "9", "0.3", "", "", ""]
    assert rows[1][-3:] == ["0.1", "0.0", "0.2"] and rows[2][4:] == [""] * 5
    lines = as_markdown(ROWS).splitlines()
    assert len(lines) == 6 and r"x\|y" in lines[2] and "| 0.1000 (0.000 to 0.200) |" in lines[3]


def test_the_best_of_a_column_is_bold():
    table = as_table(ROWS)
    cells = {str(column.header): list(column.cells) for column in table.columns}
    assert cells["loss"] == ["0.3000", "[bold]0.2000[/]", "", "0.4000"]
    assert cells["exemplar gap seen"][3].startswith("[bold]0.3") and cells["trained values"] == ["9", "", "", ""]


def test_without_a_project_it_is_one_sentence(tmp_path: Path, monkeypatch):
    from pipelines import experiments as command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["experiments"])
    with pytest.raises(SystemExit, match="experiments: "):
        command.main()


def test_make_sweep_queues_every_combination_and_shows_the_table():
    root = Path(__file__).parents[2]
    words = ["make", "--dry-run", "--silent", "sweep", "S=train.steps=1,2 train.basis.rank=3", "COPY=.work/filter"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    queued = "dvc exp run --queue -S 'train.steps=1,2' -S 'train.basis.rank=3' --copy-paths .work/filter evaluate"
    *_, first, second, third = done.stdout.splitlines()
    assert first == queued and second.endswith(" dvc exp run --run-all") and third == "python -m pipelines.experiments"
    assert f"sqlite:///{root}/mlflow.db" in second
