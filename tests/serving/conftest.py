"""Real MLflow databases, on a RAM disk where there is one: making one takes seconds of fsync elsewhere."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.model_tiny import save_model, save_parts

if TYPE_CHECKING:
    from lorweb.serving.pyfunc import AnalogyService


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session")
def model(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(parts, tmp_path_factory.mktemp("models") / "one")


def scratch() -> Path:
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="lorweb-test-", dir=shared if shared.is_dir() else None))


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
