"""A folder, an ssh server and an S3 server as the remote of two clones: what one pushes, the other pulls."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.versions.servers import BUCKET, KEY_FILE, USER, s3_server, ssh_server
from tests.versions.toy import dvc, git, ran, save, write_params

pytestmark = pytest.mark.slow
KINDS = ("folder", "ssh", "s3")


@contextmanager
def a_remote(kind: str, folder: Path) -> Iterator[tuple[list[list[str]], list[list[str]]]]:
    """(what is configured for everybody, what each clone keeps to itself), as words of `dvc remote`."""
    if kind == "folder":
        yield [["add", "--default", "store", str(folder / "store")]], []
    elif kind == "ssh":
        with ssh_server(folder) as port:
            (folder / "store").mkdir()
            address = f"ssh://{USER}@127.0.0.1:{port}{folder}/store"
            yield (
                [["add", "--default", "store", address]],
                [["modify", "--local", "store", "keyfile", str(folder / KEY_FILE)]],
            )
    else:
        with s3_server() as address:
            shared = [
                ["add", "--default", "store", f"s3://{BUCKET}/lorweb"],
                ["modify", "store", "endpointurl", address],
            ]
            secret = [["access_key_id", "test"], ["secret_access_key", "test"]]
            yield shared, [["modify", "--local", "store", *words] for words in secret]


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_clone_pushes_another_pulls(kind, toy, verify, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with a_remote(kind, tmp_path) as (shared, own):
        for words in [*shared, *own]:
            dvc(toy, "remote", *words)
        old = Path("model.bin").read_bytes()
        assert "test" not in Path(".dvc/config").read_text() or kind != "s3", "a secret is in what git keeps"
        save(toy, "shared")
        dvc(toy, "push", "--run-cache")
        write_params(toy, version=2)
        dvc(toy, "repro")
        save(toy, "v2")
        dvc(toy, "push", "--run-cache")
        assert verify("--remote")[0] == 0

        git(tmp_path, "clone", "--quiet", str(toy), "two")
        two = tmp_path / "two"
        monkeypatch.chdir(two)
        for words in own:
            dvc(two, "remote", *words)
        dvc(two, "pull")
        assert (two / "model.bin").read_bytes() == (toy / "model.bin").read_bytes()
        dvc(two, "repro")
        assert ran(two) == [], "what was pulled was made again"
        git(two, "checkout", "--quiet", "shared")
        dvc(two, "pull")
        assert (two / "model.bin").read_bytes() == old != (toy / "model.bin").read_bytes() and ran(two) == []
        assert verify("--remote")[0] == 0
