"""Names of registered models, and what of a server's files stays on this machine."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorweb.serving.address import Address
from lorweb.storage.locks import reading
from tests.serving.servers import mlflow_server

REPO = Path(__file__).parents[2]
SCRIPT = """
import os, signal, sys
from pathlib import Path
from lorweb.serving.artifacts import Submission, content_hash, resolve
from lorweb.serving.registry import Registry
model = Path(sys.argv[1])
registry = Registry("lorweb")
registry.promote(registry.submit(Submission(model, {}, {})))
print("submitted", file=sys.stderr)
found = resolve("models:/lorweb@champion")
assert found == resolve("models:/lorweb/1") == registry.folder(registry.by_number(1)), "sent once"
assert found != model and content_hash(found) == content_hash(model)
(found / "metadata.json").write_text("{}")
try:
    resolve("models:/lorweb/1")
except ValueError as error:
    assert "is damaged" in str(error), error
else:
    raise AssertionError("what was kept is looked at again")
print(found)
if sys.argv[2:]:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@given(name=st.from_regex(r"[A-Za-z][\w-]{0,9}", fullmatch=True), number=st.integers(1, 10**6))
def test_an_address_is_read_as_it_is_written(name, number):
    for address in (Address(name, number=number), Address(name, "champion")):
        assert Address.of(str(address)) == address


@pytest.mark.parametrize("text", ["models/candidate", "champion", "", "models:/m-0123456789abcdef", "models:/lorweb/x"])
def test_what_names_no_version_is_no_address(text):
    assert Address.of(text) is None


@pytest.mark.slow
def test_what_a_server_has_sent_goes_with_the_process(root, model, tmp_path):
    with mlflow_server(root, f"sqlite:///{root / 'mlflow.db'}") as address:
        done = run(root, address, tmp_path, model)
    assert done.returncode == 0, done.stderr
    assert "Downloading artifacts" not in done.stderr.partition("submitted")[2], "bars are for terminals"
    assert tmp_path in Path(done.stdout.splitlines()[-1]).parents and list(tmp_path.rglob("*.safetensors")) == []
    assert list(tmp_path.glob("lorweb-models-*")) == []


@pytest.mark.slow
def test_what_a_killed_process_was_sent_goes_when_the_next_one_asks(root, model, tmp_path):
    strangers = tmp_path / "lorweb-models-link"
    strangers.symlink_to(model)
    with mlflow_server(root, f"sqlite:///{root / 'mlflow.db'}") as address:
        killed = [run(root, address, tmp_path, model, "dies") for _ in range(2)]
        first, second = (folder for folder in tmp_path.glob("lorweb-models-*") if folder != strangers)
        assert [done.returncode for done in killed] == [-signal.SIGKILL] * 2 and list(second.rglob("*.safetensors"))
        lives = reading(first / "sent")
        for folder in (first, second, strangers):
            os.utime(folder, (0, 0), follow_symlinks=False)
        run(root, address, tmp_path, model)
        assert set(tmp_path.glob("lorweb-models-*")) == {first, strangers} and list(first.rglob("*.safetensors"))
        lives.close()
        run(root, address, tmp_path, model)
    assert list(tmp_path.glob("lorweb-models-*")) == [strangers] and (model / "metadata.json").is_file()


def run(root: Path, address: str, temporary: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=root,
        timeout=300,
        env={**os.environ, "MLFLOW_TRACKING_URI": address, "TMPDIR": str(temporary), "PYTHONPATH": str(REPO)},
    )
