"""Real MLflow databases and models for the tests of serving."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ram_disk import scratch

if TYPE_CHECKING:
    from lorweb.serving.pyfunc import AnalogyService


@pytest.fixture(scope="session")
def fresh_database() -> Iterator[Path]:
    """A migrated, empty database to copy: the migrations are the slow part."""
    from lorweb.serving.registry import Registry

    folder = scratch()
    Registry("lorweb", folder, create=True).versions()
    yield folder / "mlflow.db"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def root(fresh_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project root with an empty registry."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = scratch()
    shutil.copy2(fresh_database, folder / "mlflow.db")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def service(model: Path) -> "AnalogyService":
    """The tiny model as it is served, without MLflow."""
    from lorweb.serving.pyfunc import AnalogyService

    return AnalogyService(model)


@pytest.fixture(scope="module")
def loaded(model: Path) -> Any:
    """The tiny model as the demo holds it: the pipeline and its file."""
    from tests.serving.demo_server import load

    return load(model)


@pytest.fixture(scope="module")
def address(loaded: Any) -> Iterator[str]:
    """Where the demo of it listens."""
    from tests.serving.demo_server import served

    with served(loaded) as url:
        yield url


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """{name: file} of the images that a visitor has."""
    from tests.serving.demo_server import save_images

    return save_images(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def guest(chromium: Any, address: str) -> Iterator[Any]:
    """One window for all: the second time the page comes from the browser's cache."""
    from tests.serving.demo_visitor import visiting

    with visiting(chromium, address) as one:
        yield one


@pytest.fixture
def visitor(guest: Any, address: str) -> Any:
    """A visitor on a fresh page."""
    guest.seen.errors.clear()
    guest.seen.foreign.clear()
    return guest.arrive(address)
