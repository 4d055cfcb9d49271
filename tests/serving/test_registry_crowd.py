"""Real processes that promote and roll back at once, and die at it: on a database file and behind real servers."""

import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lorweb.serving.registry import Registry
from tests.ram_disk import scratch
from tests.serving.movers import faults_of, journal, start, submit_all
from tests.serving.servers import mlflow_server, no_postgres, postgres
from tests.soak.registry_campaign import at, campaign, prepared

pytestmark = pytest.mark.slow
PROCESSES, MOVES = 4, 5


@pytest.fixture(scope="module", params=["file", "server", "postgres"])
def place(request, fresh_database) -> Iterator[tuple[Path, str | None]]:
    """(folder, address of the server) of an MLflow with a champion; the address is None for the file."""
    if request.param == "postgres" and no_postgres():
        pytest.skip(no_postgres())
    root = scratch()
    shutil.copy2(fresh_database, root / "mlflow.db")
    with ExitStack() as stack:
        database = stack.enter_context(postgres()) if request.param == "postgres" else f"sqlite:///{root}/mlflow.db"
        uri = None if request.param == "file" else stack.enter_context(mlflow_server(root, database))
        prepared(root, uri)
        yield root, uri
    shutil.rmtree(root, ignore_errors=True)


def test_promotions_at_once_are_one_after_another(place):
    root, uri = place
    crowd = [start(root, uri, f"crowd{number}", MOVES, number) for number in range(PROCESSES)]
    for process in crowd:
        process.join(300)
    assert [process.exitcode for process in crowd] == [0] * PROCESSES
    words = [word for token, word in journal(root).items() if token.startswith("crowd") and word != "ready"]
    assert len(words) == PROCESSES * MOVES and set(words) <= {"done", "overtaken", "nothing"} and "done" in words
    with at(uri):
        registry = Registry("lorweb", root)
        assert not faults_of(root, registry)
        assert not [move for move in registry.moves() if move.settled == ""]


def test_the_same_candidate_sent_by_several_at_once_is_one_version(place):
    root, uri = place
    submit_all(root, uri, PROCESSES, "same bytes")
    with at(uri):
        registry = Registry("lorweb", root)
        same = [version for version in registry.versions() if version.tags.get("who") == "crowd"]
        assert len(same) == 1 and same[0].aliases == ("candidate",)
    copies = [path for path in root.rglob("*/basis.safetensors") if path.read_bytes() == b"same bytes"]
    assert len([path for path in copies if path.parent != root / "same"]) == 1, "one copy, whoever came second"


def test_several_at_once_may_be_the_first_who_open_a_database():
    """MLflow's migrations, run by two at once on one file, end in `table already exists`."""
    root = scratch()
    submit_all(root, None, PROCESSES, "same bytes")
    with at(None):
        assert [version.number for version in Registry("lorweb", root).versions()] == [1]
    assert not [path.name for path in root.iterdir() if "lock" in path.name]
    shutil.rmtree(root)


def test_whoever_dies_the_champion_loads_and_the_history_is_true(place):
    root, uri = place
    told = campaign(root, uri, 4, random.Random(0))
    assert not told.faults
    assert told.kills == 4 and told.rounds == 2 and told.moves > 3 and told.loads > 3


def test_the_campaign_finds_planted_faults(place):
    root, uri = place
    mover = start(root, uri, "calm", MOVES, 0)
    mover.join(300)
    with at(uri):
        registry = Registry("lorweb", root)
        assert mover.exitcode == 0 and not faults_of(root, registry)
        (root / "moves-planted.txt").write_text("done planted-0\n")
        assert faults_of(root, registry) == ["planted-0 is done, and does not count"]
        token = next(move.why.reason for move in registry.moves() if move.settled == "done" and move.number > 1)
        (root / "moves-planted.txt").write_text(f"overtaken {token}\n")
        assert f"{token} was overtaken, and counts" in faults_of(root, registry)
        (root / "moves-planted.txt").unlink()
        (root / "moves-zzz.txt").unlink(missing_ok=True)
        registry.client.set_registered_model_alias("lorweb", "champion", "4")
        registry.client.set_registered_model_alias("lorweb", "previous", "4")
        found = faults_of(root, registry)
        assert len([fault for fault in found if "was made by nobody" in fault]) == 1
