"""`mlflow models serve` on loopback: a project with a champion, the process, requests to it, and its memory."""

import base64
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
START = 180.0  # s, the longest a server may take until it answers


@dataclass(frozen=True)
class Asked:
    """One request: its body and kind, and for a bad one the status that it deserves."""

    body: bytes
    kind: str = "application/json"
    status: int = 200
    row: dict[str, Any] | None = None  # of a good one


@dataclass(frozen=True)
class Reply:
    """What came back, and how long it took."""

    status: int
    body: bytes
    seconds: float

    @property
    def sentence(self) -> str:
        """The message of a refusal; empty where it is no JSON that has one."""
        try:
            return str(json.loads(self.body).get("message", ""))
        except (ValueError, AttributeError):
            return ""

    def image(self) -> np.ndarray:
        """The first image of the answer [H, W, 3]."""
        png = base64.b64decode(json.loads(self.body)["predictions"][0]["image"])
        return np.asarray(Image.open(io.BytesIO(png))).astype(int)


def picture(seed: int, side: int) -> Image.Image:
    """An RGB image with structure that differs with the seed."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    waves = [np.sin(draw.uniform(2, 9) * x + draw.uniform(2, 9) * y + draw.uniform(0, 6)) for _ in range(3)]
    return Image.fromarray(((np.stack(waves, axis=-1) + 1) * 127).astype(np.uint8))


def encoded(image: Image.Image) -> str:
    """base64 text of its PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def good(number: int, side: int) -> Asked:
    """A valid request of one row; every number asks for something else."""
    images = {name: encoded(picture(3 * number + k, side)) for k, name in enumerate(("a", "a2", "b"))}
    row = {**images, "seed": number, "strength": 0.5 + number % 4 / 4}
    return Asked(json.dumps({"dataframe_records": [row]}).encode(), row=row)


def bad(number: int, side: int) -> Asked:
    """One of the ways to be wrong, in turn."""
    row = good(number, side).row or {}
    flat = encoded(Image.new("1", (5000, 5000)))  # 25 million pixels in some kilobytes
    changes: list[dict[str, Any]] = [
        {"a": "no base64!"},
        {"b": row["b"][:200]},
        {"b": flat},
        {"a2": 5},
        {"steps": 0},
        {"strength": "NaN"},
        {"seed": 1.5},
        {"prompt": "x" * 3000},
    ]
    whole = [
        Asked(b"{not json", status=400),
        Asked(json.dumps({"rows": [row]}).encode(), status=400),
        Asked(json.dumps({"dataframe_records": []}).encode(), status=400),
        Asked(json.dumps({"dataframe_records": [row] * 65}).encode(), status=400),
        Asked(b"x", kind="text/plain", status=415),
    ]
    kind = number % (len(changes) + len(whole))
    if kind >= len(changes):
        return whole[kind - len(changes)]
    return Asked(json.dumps({"dataframe_records": [{**row, **changes[kind]}]}).encode(), status=400)


def mixed(count: int, share_bad: float, side: int) -> list[Asked]:
    """Good and bad requests in an order that does not change."""
    wrong = round(count * share_bad)
    requests = [good(number, side) for number in range(count - wrong)] + [bad(number, side) for number in range(wrong)]
    random.Random(0).shuffle(requests)
    return requests


def send(port: int, asked: Asked) -> Reply:
    """One request and its reply; a connection that breaks is status 0."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", asked.body, {"Content-Type": asked.kind})
    begun = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=300) as reply:
            status, body = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    except OSError as error:
        status, body = 0, str(error).encode()
    return Reply(status, body, time.perf_counter() - begun)


def make_model(folder: Path) -> Path:
    """The packaged base and encoder with a basis of random values: the work of a trained one."""
    from lorweb.basis import BasisConfig, add_basis, basis_layers, checkpoint, query_dim
    from lorweb.basis.encoders import load_encoder
    from lorweb.config import load_params
    from lorweb.kontext.load import load_base
    from lorweb.kontext.metadata import ModelMetadata, write_metadata

    encode = load_params(ROOT / "params.yaml").encode
    base, encoder = load_base(encode.base, torch.float32, "cpu"), load_encoder(encode.encoder)
    config = BasisConfig(
        n_loras=16, rank=2, key_dim=16, heads=1, activation="softmax", reduce="mean", projection="linear",
        query_dim=query_dim("cat-aa'b", encoder.dim), query_mode="cat-aa'b",
    )  # fmt: skip
    add_basis(base.transformer, config, seed=0)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in basis_layers(base.transformer).values():
            layer.B.copy_(torch.randn(layer.B.shape, generator=draw) * 3 * layer.weight.std())
    checkpoint.save(base.transformer, folder / "basis.safetensors", {})
    steps, guidance = base.defaults.num_inference_steps, base.defaults.guidance_scale
    facts = (base.name, base.revision, encoder.name, encoder.revision, encode.quadrant, steps, guidance)
    write_metadata(folder, ModelMetadata(*facts, {}))
    return folder


@contextmanager
def served(model: Path, root: Path) -> Iterator[tuple[int, psutil.Process]]:
    """(port, server process) of `mlflow models serve` with the model as the champion of a project of its own."""
    from lorweb.serving.artifacts import Submission
    from lorweb.serving.registry import Registry

    registry = Registry("lorweb", root, create=True)
    registry.promote(registry.submit(Submission(model, {}, {})))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/lorweb@champion"]
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow calls uvicorn by its name
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}", "PATH": binaries}
    environment["PYTHONPATH"] = paths
    with (root / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--env-manager", "local", "-p", str(port), "--timeout", "300"],
            cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(port, process)
        below = psutil.Process(process.pid).children(recursive=True)
        (server,) = [child for child in below if "uvicorn" in " ".join(child.cmdline())]
        yield port, server
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it answered")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not answer within {START:g} s")
