"""One process environment for all tests, and the one Ray session that the marked ones share."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.browser import chromium, say_skipped

__all__ = ["chromium"]  # a fixture

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "DVC_NO_ANALYTICS": "1",
    "OMP_NUM_THREADS": "1",  # two processes on two cores, and sums that do not depend on the number of threads
}
for name, value in ENVIRONMENT.items():  # before anything heavy is imported: these are read at import
    os.environ.setdefault(name, value)
for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):  # tests never touch a cluster or a registry of the caller
    os.environ.pop(name, None)
settings.register_profile("project", deadline=None)  # a busy machine is no failure
settings.load_profile("project")


def pytest_configure() -> None:
    if os.environ.get("LORWEB_RECORD_OPTIONS"):  # make options
        from tests.options_record import record_workers

        record_workers()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    say_skipped(terminalreporter)


@pytest.fixture(autouse=True)
def _nothing_found() -> None:
    """A test is a process of its own to `lorweb.storage`: what an earlier one found is not carried into a store."""
    from lorweb.storage.fetched import forget

    forget()


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a tiny base and its encoder. Nothing writes there, nor into `model`."""
    from tests.model_tiny import save_parts

    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session")
def model(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, random weights of the true architecture."""
    from tests.model_tiny import save_model

    return save_model(parts, tmp_path_factory.mktemp("models") / "one")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a.png, a2.png, b.png and no registry."""
    from tests.cli_cases import working_folder

    return working_folder(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A local Ray with four logical CPUs; yields the address that other processes attach to (RAY_ADDRESS)."""
    import ray

    from pipelines._stage import start_ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # workers inherit it: stages run in other folders
        start_ray()
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
