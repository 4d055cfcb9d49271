"""One tiny base folder per session; every test that changes a model loads its own copy."""

import os
import shutil
from copy import deepcopy
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from lorweb.kontext.canvas import CanvasRule
from lorweb.kontext.grid import Size
from lorweb.kontext.load import Base, load_base
from lorweb.kontext.pipeline import AnalogyPipeline
from tests.kontext.made import CONFIG, train
from tests.kontext_tiny import PixelEncoder, save_tiny_kontext


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_kontext(tmp_path_factory.mktemp("base") / "kontext")


@pytest.fixture(scope="session")
def frozen_base(base_folder: Path) -> Base:
    """Shared: do not change it."""
    return load_base(str(base_folder), torch.float32, "cpu")


@pytest.fixture
def base(frozen_base: Base) -> Base:
    """A copy to add a basis to: made in a sixth of the time that loading takes."""
    return deepcopy(frozen_base)


@pytest.fixture
def pipe(base: Base) -> AnalogyPipeline:
    """A pipeline of its own, with a basis that does something and quadrants of 32 px."""
    train(base)
    return AnalogyPipeline(base, PixelEncoder(), CONFIG, CanvasRule(Size(32, 32)))


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base_folder, tmp_path / "copy"))
