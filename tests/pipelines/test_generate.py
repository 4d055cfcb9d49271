"""Generate: what a pair is, what a change redoes, and a driver killed in the middle of its work."""

import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from lorweb.data.catalogue import load_catalogue
from lorweb.data.decode import encode_png
from lorweb.data.editors import EmbeddedEditor
from lorweb.data.shards import read_table
from lorweb.records import PAIR, SOURCE, stable_id
from pipelines import generate
from pipelines._results import read_batch
from pipelines._rows import in_process
from pipelines._stage import seed_of
from tests.pipelines.projects import POOL, ROOT, contents, write_params

OUT = "data/candidates"


def editor(*tasks, batch_size=4):
    """The embedded editor alone."""
    pool = {**POOL, "batch_size": batch_size}
    entry = {"editor": "embedded", "tasks": tasks or ["colour/hue-*", "geometry/mirror"], "pool": pool}
    return {"editors": [{**entry, "tasks": list(entry["tasks"])}]}


def journalled(folder):
    return {p: read_batch(p).num_rows for p in (folder / ".work/generate").rglob("rows-*.arrow")}


def test_a_pair_is_its_source_and_the_editors_answer(project):
    pairs = read_table(project / OUT, PAIR).to_pylist()
    sources = {row["id"]: row for row in read_table(project / "data/sources", SOURCE).to_pylist()}
    tasks = {pair["task"] for pair in pairs}
    assert len(pairs) == 6 * len(tasks) and "geometry/mirror" in tasks and len(tasks) > 5
    catalogue = load_catalogue()
    for pair in pairs[::9]:
        source, task = sources[pair["source_id"]], catalogue.task(pair["task"])
        assert pair["id"] == stable_id(pair["task"], pair["source_id"], pair["seed"])
        assert pair["before"] == source["image"] and pair["instruction"] in task.instructions
        assert pair["after"] == encode_png(EmbeddedEditor().edit(task, source, pair["seed"]))
        assert {k: pair[k] for k in ("subject", "category", "licence")} == {
            k: source[k] for k in ("subject", "category", "licence")
        }
    assert {p["category"].partition(":")[0] for p in pairs if p["task"] == "geometry/mirror"} == {"photo", "avatar"}


def test_a_task_has_one_seed_so_that_an_exemplar_shows_its_pattern(project):
    seeds = {}
    for pair in read_table(project / OUT, PAIR, ["task", "seed"]).to_pylist():
        seeds.setdefault(pair["task"], set()).add(pair["seed"])
    assert len(seeds) > 5 and all(len(own) == 1 for own in seeds.values())
    assert len(set.union(*seeds.values())) == len(seeds)
    assert seeds["geometry/mirror"] == {seed_of("edit", 0, "geometry/mirror", 0)}, "pairs keep their names"


@pytest.mark.slow
def test_a_changed_param_redoes_only_what_it_touches(project):
    before = contents(project / OUT)
    known = journalled(project)
    write_params(project, {"generate": {"sources_per_task": 8, **editor(batch_size=3)}})
    generate.main(in_process)
    tasks = sum(known.values()) // 6
    assert sum(n for path, n in journalled(project).items() if path not in known) == 2 * tasks
    write_params(project)
    after = journalled(project)
    generate.main(in_process)
    assert contents(project / OUT) == before and journalled(project) == after


def test_a_pattern_without_a_task_is_named(project):
    write_params(project, {"generate": editor("colour/*", "color/*")})
    with pytest.raises(
        SystemExit, match=r"editors.0 \(embedded\): no task matches 'color/\*' \(the nearest is 'colour/"
    ):
        generate.main(in_process)


def start(folder, address):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": address}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.generate"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )


def journalled_names(folder):
    return {p.name for p in (folder / ".work/generate").rglob("rows-*.arrow")}


def wait_for_rows(folder, driver, number):
    deadline = time.monotonic() + 240
    while len(journalled_names(folder)) < number:
        assert driver.poll() is None and time.monotonic() < deadline, driver.stderr.read()
        time.sleep(0.02)


def finishes_with(folder, driver, calm):
    """The run ends well, with the bytes of the undisturbed one and each row journalled once."""
    _, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors
    assert contents(folder / OUT) == calm
    total = len(read_table(folder / OUT, PAIR, ["id"]))
    assert sum(journalled(folder).values()) == total == len(journalled_names(folder))
    return total


@pytest.fixture
def fresh(project):
    """The project before generate, and what generate will give."""
    calm = contents(project / OUT)
    shutil.rmtree(project / ".work")
    shutil.rmtree(project / OUT)
    write_params(project, {"generate": editor(batch_size=1)})
    return project, calm


@pytest.mark.ray
def test_a_driver_killed_in_the_middle_loses_nothing_and_doubles_nothing(fresh, ray_cluster):
    project, calm = fresh
    driver = start(project, ray_cluster)
    try:
        wait_for_rows(project, driver, 5)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert not (project / OUT).exists()
    time.sleep(1)  # actors of the dead driver may finish the row in their hands
    survived = journalled_names(project)
    total = finishes_with(project, start(project, ray_cluster), calm)
    assert 5 <= len(survived) < total, "the driver was not killed in the middle"


@pytest.mark.ray
def test_killed_actors_are_replaced_and_their_rows_repeated(fresh, ray_cluster):
    project, calm = fresh
    driver = start(project, ray_cluster)
    wait_for_rows(project, driver, 5)
    mine = psutil.Process().children(recursive=True)  # of the session's own Ray, and of no other on this machine
    actors = [p for p in mine if "MapWorker" in " ".join(p.cmdline())]
    for actor in actors:
        actor.kill()
    killed_at = len(journalled_names(project))
    total = finishes_with(project, driver, calm)
    assert actors and killed_at < total, "nobody was killed in the middle"
