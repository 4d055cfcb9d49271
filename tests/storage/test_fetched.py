"""Paths of a parameter file that name a place by protocol: mirrored once, looked at again, the same on every node."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from lorweb.storage import Inventory, StorageError, Store, bind, places
from lorweb.storage.fetched import carry, expect, fetched, forget, here, portable, seen, use_options
from lorweb.storage.mirrors import mirrors


@pytest.fixture(autouse=True)
def afresh(tmp_path, monkeypatch):
    """No process remembers what another test asked for."""
    monkeypatch.setenv("LORWEB_NODE_FOLDER", str(tmp_path / "node"))
    monkeypatch.setattr(places, "_bound", [])
    forget()
    yield
    forget()
    use_options(None)


@pytest.fixture
def bucket(s3, tmp_path) -> Store:
    """A place of the test's own on S3, which paths of that protocol are opened with."""
    store = Store(f"s3://bucket/{tmp_path.name}", {"endpoint_url": s3})
    use_options(store)
    return store


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_folder_and_a_file_are_mirrored_under_their_names(bucket):
    bucket.write("models/flux/model_index.json", b"{}")
    bucket.write("models/flux/vae/weights.safetensors", b"1" * 3000)
    folder = fetched(f"{bucket.uri}/models/flux")
    assert folder.name == "flux" and set(tree(folder)) == {"model_index.json", "vae/weights.safetensors"}
    assert fetched(f"{bucket.uri}/models/flux/").name == "flux"
    assert fetched(f"{bucket.uri}/models/flux/model_index.json").read_bytes() == b"{}"


def test_what_did_not_change_is_not_fetched_again_and_what_did_is(bucket, monkeypatch):
    uri = f"{bucket.uri}/m"
    bucket.write("m/a", b"1")
    bucket.write("m/b", b"2")
    first = fetched(uri)
    bucket.write("m/a", b"3")
    assert fetched(uri) == first, "a process keeps to what it found"
    forget()
    second = fetched(uri)
    assert tree(second) == {"a": b"3", "b": b"2"} and tree(first) == {"a": b"1", "b": b"2"}
    forget()
    monkeypatch.setattr(Store, "get", lambda *_: pytest.fail("fetched again"))
    assert fetched(uri) == second


def test_files_of_a_mirror_have_the_same_place_and_time_on_every_node(bucket, tmp_path, monkeypatch):
    bucket.write("images/one.png", b"1")
    found = []
    for node in ("one", "two"):
        monkeypatch.setenv("LORWEB_NODE_FOLDER", str(tmp_path / node))
        forget()
        path = fetched(f"{bucket.uri}/images") / "one.png"
        found.append((portable(str(path)), path.stat().st_mtime_ns))
        assert here(portable(str(path))) == str(path)
    assert found[0] == found[1] and str(tmp_path) not in found[0][0]
    assert portable("/data/x.png") == here("/data/x.png") == "/data/x.png"


def test_a_worker_refuses_another_version_than_its_driver_found(bucket):
    uri = f"{bucket.uri}/m"
    bucket.write("m/a", b"1")
    fetched(uri)
    driver = seen()
    bucket.write("m/a", b"2")
    forget()
    expect(driver, bucket)
    with pytest.raises(StorageError, match=f"{uri} has changed since the stage was started; run the stage again"):
        fetched(uri)


def test_a_node_that_lacks_a_folder_reads_what_the_driver_found(shared, tmp_path, monkeypatch):
    home = tmp_path / "project"
    write = {"models/x/config.json": b"{}", "models/x/vae/w": b"1", "images/one.png": b"2", "lora.safetensors": b"3"}
    for name, content in write.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    monkeypatch.chdir(home)
    named = ["models/x", str(home / "images"), "lora.safetensors"]
    for name in named:
        assert fetched(name) == Path(name)
    assert fetched("owner/name") == Path("owner/name")
    driver, files = seen(), carry(shared)
    assert set(driver) == set(named) and len(files) == 4
    home.rename(tmp_path / "elsewhere")
    forget()
    root = bind(shared, Inventory(files))
    expect(driver, shared)
    assert tree(fetched("models/x")) == {"config.json": b"{}", "vae/w": b"1"}
    assert fetched("lora.safetensors").read_bytes() == b"3" and fetched("lora.safetensors").suffix == ".safetensors"
    one = root / here(str(home / "images/one.png"))
    assert one.read_bytes() == b"2"
    assert fetched("owner/name") == Path("owner/name"), "a hub id is no missing folder"


def test_a_node_that_cannot_have_a_folder_says_so(tmp_path, monkeypatch):
    (tmp_path / "x").mkdir()
    fetched(str(tmp_path / "x"))
    driver = seen()
    forget()
    (tmp_path / "x").rmdir()
    expect(driver, None)
    with pytest.raises(StorageError, match=f"no {tmp_path}/x on node {platform.node()}; give it as a URI"):
        fetched(str(tmp_path / "x"))


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://bucket/nothing/here", "nothing lies at s3://bucket/nothing/here; correct the path"),
        ("s3://bucket", "s3://bucket names no folder or file in a bucket"),
        ("sftp://me:secret@host/x", "with a password, and parameters are versioned"),
        ("nonsense://x/y", "cannot open the store nonsense://x"),
    ],
)
def test_what_cannot_be_had_is_a_sentence(bucket, uri, words):
    with pytest.raises(StorageError, match=words) as caught:
        fetched(uri)
    assert "secret" not in str(caught.value)


def test_a_file_uri_is_the_path_itself(tmp_path):
    assert fetched(f"file://{tmp_path}") == tmp_path


def test_a_fetch_that_fails_leaves_no_half_mirror(bucket, monkeypatch):
    bucket.write("m/a", b"1")
    bucket.write("m/b", b"2")
    real = Store.get

    def get(self, key, target):
        if key.endswith("b"):
            raise StorageError("the line is cut")
        real(self, key, target)

    monkeypatch.setattr(Store, "get", get)
    with pytest.raises(StorageError, match="the line is cut"):
        fetched(f"{bucket.uri}/m")
    (home,) = mirrors().iterdir()
    assert [path.name for path in home.iterdir()] == ["lock"]
    monkeypatch.setattr(Store, "get", real)
    assert tree(fetched(f"{bucket.uri}/m")) == {"a": b"1", "b": b"2"}


def test_old_versions_go_but_for_those_that_are_read_and_what_a_kill_left_is_none(tmp_path, monkeypatch):
    held: dict[Path, IO[str]] = {}
    monkeypatch.setattr("lorweb.storage.mirrors._held", held)
    store = Store(f"memory://{tmp_path.name}")
    folders, others = [], {}
    for number in range(5):
        store.write("m/a", b"1" * (number + 1))
        forget()
        folders.append(fetched(f"{store.uri}/m").parent)
        os.utime(folders[-1], (number, number))
        if number == 0:
            others |= held  # another process goes on with the first
        held.clear()
        (folders[0].parent / f".{number}.tmp").mkdir()  # newer than all of them
    assert [path.exists() for path in folders] == [True, False, False, True, True]
    others[folders[0]].close()
    forget()
    fetched(f"{store.uri}/m")
    assert [path.exists() for path in folders] == [False, False, False, True, True]
    assert not list(folders[0].parent.glob("*.tmp"))


FETCH = """
import sys
from lorweb.storage import Store, store as module
from lorweb.storage.fetched import fetched, use_options
real = Store.get
def get(self, key, target):
    print(key, flush=True)
    real(self, key, target)
Store.get = get
use_options(Store("s3://bucket", {"endpoint_url": sys.argv[2]}))
assert (fetched(sys.argv[1]) / "a").read_bytes() == b"1"
"""


@pytest.mark.slow
def test_processes_of_a_node_fetch_a_uri_once(bucket, s3):
    bucket.write("m/a", b"1")
    command = [sys.executable, "-c", FETCH, f"{bucket.uri}/m", s3]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ.copy()) for _ in range(4)]
    told = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4 and "".join(told) == "m/a\n"
