"""The scripts in benchmarks/ as modules."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def put_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their folder is where imports look first, as for a script that is run from there; undone after the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")


def module(name: str) -> ModuleType:
    """One of them by name; wants `put_on_the_path`."""
    return importlib.import_module(name)
