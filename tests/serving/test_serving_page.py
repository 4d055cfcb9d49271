"""The blocks of docs/serving.md, as they are printed: the server, curl from a shell, a DataFrame in Python."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from lorweb.serving.artifacts import Submission
from lorweb.serving.registry import Registry
from tests.cluster.head import free_port
from tests.ram_disk import scratch
from tests.serving.requests_cases import png, text
from tests.serving.scoring import healthy, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("curl"), reason="no curl, which docs/serving.md asks the server with"),
]
REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "serving.md").read_text(encoding="utf-8")
SERVE, ASK = re.findall(r"```\n(.*?)```", PAGE, re.S)[:2]
(PYTHON,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
IMAGES = {"a": png(1), "a2": png(2), "b": png(3)}


@pytest.fixture
def project(model: Path, fresh_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a champion, and the three images of a user."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = scratch()
    shutil.copy2(fresh_database, root / "mlflow.db")
    registry = Registry("lorweb", root)
    registry.promote(registry.submit(Submission(model, {}, {})))
    for name, data in IMAGES.items():
        (root / f"{name}.png").write_bytes(data)
    yield root
    shutil.rmtree(root, ignore_errors=True)


def environment() -> dict[str, str]:
    """That of somebody who has activated the project's environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": str(REPO), "PATH": path}


def in_shell(block: str, root: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=root, env=environment(), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def test_the_server_starts_and_a_shell_gets_its_picture(project, service):
    port = str(free_port())
    assert SERVE.count("5000") == ASK.count("5000") == 1
    with (project / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            ["bash", "-euc", SERVE.replace("5000", port)], cwd=project, env=environment(), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: healthy(int(port)), lambda: server.poll() is None)
        in_shell(ASK.replace("5000", port), project)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    row = {name: text(data) for name, data in IMAGES.items()} | {"seed": 7, "strength": 0.8}
    (expected,) = service.predict(pd.DataFrame([row]))["image"]
    assert text((project / "b2.png").read_bytes()) == expected


def test_rows_of_a_frame_are_answered_in_python(project, service):
    (project / "ask.py").write_text(PYTHON + "answer.to_json('answer.json', orient='records')\n", encoding="utf-8")
    in_shell("python ask.py", project)
    rows = [{name: text(data) for name, data in IMAGES.items()} | {"seed": seed} for seed in (1, 2, 3)]
    expected = service.predict(pd.DataFrame(rows))
    answer = pd.read_json(project / "answer.json", orient="records", convert_dates=False)
    assert answer["image"].tolist() == expected["image"].tolist() and answer["image"].nunique() == 3
