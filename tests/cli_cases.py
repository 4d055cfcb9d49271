"""The command called in this process, and what it wrote."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorweb import cli
from tests.kontext_tiny import drawn_image

IMAGES = ("a.png", "a2.png", "b.png")


def working_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes `path` the working folder, with a.png, a2.png, b.png and no registry."""
    monkeypatch.chdir(path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for seed, name in enumerate(("a", "a2", "b"), start=1):
        drawn_image(seed, 40, 40).save(path / f"{name}.png")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `lorweb ARGUMENTS`."""
    before, sys.argv = sys.argv, ["lorweb", *arguments]
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    out = capsys.readouterr()
    return code, out.out, out.err


def facts(path: Path) -> dict:
    return json.loads(Image.open(path).text["lorweb"])


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)
