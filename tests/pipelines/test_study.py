"""The study trains, draws and measures what it says, once, and its intervals are over seeds and tasks."""

import json
import re
import shlex
import shutil
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lorweb.config import parse_params
from lorweb.data.shards import read_table
from lorweb.evaluation.aggregate import expanded_tail, interval
from lorweb.evaluation.workers import decode_quadrant
from lorweb.kontext.grid import Size
from lorweb.records import ANALOGY, PAIR, TRAIN_PAIR
from pipelines.profile import merge
from tests.benchmark_cases import FOLDER, module, put_on_the_path

SMALL = {
    "steps": 3,
    "batch_size": 2,
    "validation_analogies": 2,
    "basis": {"n_loras": 2, "rank": 1, "key_dim": 4},
}
SETTINGS = {
    "small": {"train": SMALL},
    "one task": {"train": SMALL, "tasks": 0.5},
    "backwards": {"train": SMALL, "assemble": {"inverse": ["*"]}},
}


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_the_path(monkeypatch)


@pytest.fixture(scope="module")
def studied(encoded, tmp_path_factory):
    """A project, and the arguments of a study that has run in it."""
    root = tmp_path_factory.mktemp("studied")
    project = root / "project"
    shutil.copytree(encoded, project)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["evaluate"]["num_inference_steps"] = 2
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "settings.yaml").write_text(yaml.safe_dump(SETTINGS, sort_keys=False))
    (root / "page.md").write_text("<!-- study -->\n<!-- /study -->\n")
    paths = [f"--{name}={root / file}" for name, file in (("settings", "settings.yaml"), ("json", "rows.json"))]
    words = [f"--project={project}", *paths, f"--into={root / 'page.md'}", "--split=test", "--shuffled"]
    words += ["--seeds", "0", "1", "--variants", "lorweb", "single_lora", "--rivals", "base", "copy"]
    with pytest.MonkeyPatch.context() as patch:
        put_on_the_path(patch)
        module("study").main(words)
    return root, words


def rows_of(studied):
    return json.loads((studied[0] / "rows.json").read_text())


@pytest.mark.slow
def test_every_setting_variant_and_seed_is_trained_once(studied, capsys):
    root, words = studied
    trained = [row for row in rows_of(studied) if row["kind"] == "training"]
    keys = [(row["setting"], row["variant"], row["seed"]) for row in trained]
    assert keys == [(s, v, seed) for s in SETTINGS for seed in (0, 1) for v in ("lorweb", "single_lora")]
    assert len({row["loss"] for row in trained}) == len(trained), "two trainings are the same"
    assert all(row["steps"] == 3 and row["seconds"] > 0 for row in trained)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")}
    rows = rows_of(studied)
    capsys.readouterr()
    module("study").main(words)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")} == before
    assert rows_of(studied) == rows and "step " not in capsys.readouterr().out


@pytest.mark.slow
def test_a_setting_with_other_data_has_its_own_and_the_others_the_projects(studied):
    root, _ = studied
    own = {path.parent.name.rpartition("-")[0]: path for path in (root / "project/.work/study/settings").glob("*/data")}
    assert [own[name].joinpath("encoded").is_symlink() for name in SETTINGS] == [True, True, False]
    pairs = read_table(own["backwards"] / "analogies/train", TRAIN_PAIR, ["task"])
    assert any(name.startswith("undo:") for name in pairs["task"].to_pylist())


@pytest.mark.slow
def test_means_are_of_tasks_and_differences_of_means(studied):
    root, _ = studied
    found = {(row["setting"], row["model"], row["minus"]): row for row in rows_of(studied) if row["kind"] != "training"}
    analogies = [r for r in read_table(root / "project/data/analogies", ANALOGY).to_pylist() if r["split"] == "test"]
    pairs = {row["id"]: row for row in read_table(root / "project/data/pairs", PAIR).to_pylist()}
    tasks: dict[str, list[float]] = {}
    for row in analogies:
        if not row["subject_seen"]:
            b, b2 = (decode_quadrant(pairs[row["query"]][side], Size(32, 32)) for side in ("before", "after"))
            error = np.square((np.asarray(b, float) - np.asarray(b2, float)) / 255).mean()
            tasks.setdefault((row["holdout"] == "none", row["task"]), []).append(error)
    for cell, seen in (("seen", True), ("unseen", False)):
        own = [np.mean(errors) for (trained, _), errors in tasks.items() if trained == seen]
        if own:
            assert found["", "copy", None]["cells"][cell]["mean"] == pytest.approx(np.mean(own), rel=1e-5)
    for (setting, model, minus), row in found.items():
        for cell, value in row["cells"].items() if minus else ():
            of, other = minus.split(" ")[:-1], minus.split(" ")[-1]
            rival = found[" ".join(of), other, None]["cells"][cell]["mean"]
            mine = found[setting, model, None]["cells"][cell]
            assert value["mean"] == pytest.approx(mine["mean"] - rival, abs=1e-12)
            assert value["low"] <= value["mean"] <= value["high"] and len(mine["seeds"]) == 2
    minus = {(setting, model, rival) for setting, model, rival in found if rival}
    assert ("small", "lorweb", "small single_lora") in minus and ("small", "lorweb", "base") in minus
    assert ("backwards", "lorweb", "small lorweb") in minus


@pytest.mark.slow
def test_the_page_shows_what_the_file_holds(studied):
    assert module("study").markdown(rows_of(studied)) in (studied[0] / "page.md").read_text()


def test_the_committed_page_shows_the_committed_results():
    found = sorted((FOLDER / "results" / "study").glob("*.json"))
    assert found
    for path in found:
        text = module("study").markdown(json.loads(path.read_text(encoding="utf-8")))
        assert text in (FOLDER / "README.md").read_text(encoding="utf-8"), path


def test_the_guide_shows_settings_and_a_command_that_are_understood():
    text = (FOLDER.parent / "docs" / "training_study.md").read_text(encoding="utf-8")
    blocks = [textwrap.dedent(found) for found in re.findall(r"(?:^    .+\n)+", text, re.M)]
    (command,) = [block for block in blocks if block.startswith("python")]
    given = module("study").options().parse_args(shlex.split(command)[2:])
    assert len(module("study").read_settings(given.settings, given.only)) == 2
    (shown,) = [block for block in blocks if not block.startswith("python")]
    made = [module("_study_train").Setting.parse(name, value) for name, value in yaml.safe_load(shown).items()]
    assert [setting.tasks for setting in made] == [1.0, 1.0, 0.5]


@pytest.mark.slow
def test_every_setting_of_the_file_fits_the_projects_parameters(encoded, tmp_path):
    listed = module("study").read_settings(FOLDER / "study.yaml", [])
    assert listed[0].name == "default" and not listed[0].changes and len(listed) > 10
    for setting in listed:
        plain = replace(setting, changes={k: v for k, v in setting.changes.items() if k == "train"})
        folder = module("_study_train").prepare(plain, encoded, tmp_path)
        parse_params(merge(yaml.safe_load((folder / "params.yaml").read_text()), setting.changes), setting.name)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=5, max_size=20))
def test_one_seed_gives_the_interval_of_the_evaluation(values):
    """Both lie where many other resamples have that share of their means; means of few or equal values lie in steps."""
    made = module("_study_numbers").spread(np.array([values]), 4000, "x")
    n, tail = len(values), expanded_tail(len(values))
    means = np.random.default_rng(1).choice(values, (20_000, n)).mean(1)
    for low, high in ((made.low, made.high), interval(np.array(values), 4000, np.random.default_rng(0))):
        for bound, level in ((low, tail), (high, 1 - tail)):
            least, most = np.quantile(means, np.clip([level - 0.0125, level + 0.0125], 0, 1))  # 5 standard errors
            assert least - 1e-9 <= bound <= most + 1e-9


def test_seeds_that_differ_widen_the_interval_and_tasks_are_not_counted_twice():
    numbers, generator = module("_study_numbers"), np.random.default_rng(0)
    tasks = generator.normal(size=30)
    alike = numbers.spread(np.stack([tasks] * 3), 2000, "x")
    alone = numbers.spread(tasks[None], 2000, "x")
    apart = numbers.spread(np.stack([tasks, tasks + 3, tasks + 6]), 2000, "x")
    assert alike.high - alike.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert apart.at_hand == pytest.approx((alone.low + 3, alone.high + 3), abs=0.1)
    assert apart.high - apart.low > 3 and apart.seeds == pytest.approx([alone.mean + more for more in (0, 3, 6)])


def test_what_cannot_be_paired_or_set_is_refused(tmp_path):
    numbers, train = module("_study_numbers"), module("_study_train")
    one = numbers.Arm("s", "lorweb", ("a", "b"), {"seen": np.zeros((2, 2))})
    for other in (("a", "c"), {"seen": np.zeros((2, 2))}), (("a", "b"), {"seen": np.zeros((3, 2))}):
        with pytest.raises(ValueError, match="same analogies with the same seeds"):
            numbers.difference(one, numbers.Arm("t", "lorweb", *other), 10)
    for wrong in ({"collect": {"size": 3}}, {"tasks": 0}):
        with pytest.raises(ValueError, match="setting 'x' changes"):
            train.Setting.parse("x", wrong)
    (tmp_path / "settings.yaml").write_text("default: {}\n")
    with pytest.raises(ValueError, match="did you mean 'default'"):
        module("study").read_settings(tmp_path / "settings.yaml", ["defalt"])
