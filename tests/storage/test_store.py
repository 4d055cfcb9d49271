"""A store keeps what it is given, whole or not at all, and says in a sentence what it cannot do."""

import hashlib
import signal
import subprocess
import sys
import time

import pytest

from lorweb.storage import StorageError, Store
from tests.harm import full_disk
from tests.storage.servers import s3_server


def test_what_is_put_comes_back_and_is_listed(shared, tmp_path):
    (tmp_path / "one").write_bytes(b"1" * 70_000)
    shared.put(tmp_path / "one", "a/b/one")
    shared.write("a/two", b"2")
    assert shared.names("a") == {"two": 1} and shared.names("a/b") == {"one": 70_000} and shared.names("x") == {}
    assert shared.folders("a") == ["b"]
    assert {key: info["size"] for key, info in shared.find("a").items()} == {"a/b/one": 70_000, "a/two": 1}
    assert shared.size("a/two") == 1 and shared.size("a/three") is None and shared.size("a") is None
    shared.get("a/b/one", tmp_path / "new/copy")
    assert (tmp_path / "new/copy").read_bytes() == b"1" * 70_000 and shared.read("a/two") == b"2"
    shared.write("a/two", b"other")  # replaced, and seen to be so
    assert shared.read("a/two") == b"other" and shared.size("a/two") == 5
    shared.remove("a")
    shared.remove("a")
    assert shared.names("a/b") == {} and shared.size("a/two") is None
    for missing in (lambda: shared.read("a/two"), lambda: shared.get("a/two", tmp_path / "two")):
        with pytest.raises(FileNotFoundError):
            missing()
    assert not (tmp_path / "two").exists()


@pytest.mark.slow
def test_another_process_sees_what_was_written_after_it_looked(shared):
    """File systems keep what they have listed; a store looks again."""
    assert shared.names("k") == {} and shared.size("k/late") is None
    code = f"from lorweb.storage import Store; Store({shared.uri!r}, {dict(shared.options)!r}).write('k/late', b'12')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert shared.size("k/late") == 2 and shared.names("k") == {"late": 2}


def test_a_full_disk_is_a_sentence_and_leaves_nothing(shared, tmp_path):
    shared.write("large", b"x" * 100_000)
    with full_disk(), pytest.raises(StorageError, match=r"read large from .* free some space on this machine"):
        shared.get("large", tmp_path / "here/large")
    assert not list((tmp_path / "here").iterdir())


def test_a_full_store_is_a_sentence_and_leaves_nothing(tmp_path):
    store = Store(str(tmp_path / "store"))
    with full_disk(), pytest.raises(StorageError, match=r"write large to the store .* free some space there"):
        store.write("large", b"x" * 100_000)
    assert not list((tmp_path / "store").iterdir())


def test_a_missing_bucket_is_named(s3, tmp_path):
    store = Store("s3://nobody/x", {"endpoint_url": s3})
    (tmp_path / "one").write_bytes(b"1")
    with pytest.raises(StorageError, match="lies in 'nobody', which is not there; make it"):
        store.put(tmp_path / "one", "one")


@pytest.mark.slow
def test_wrong_credentials_are_a_sentence(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with s3_server(open_requests=1) as endpoint:
        store = Store("s3://bucket/x", {"endpoint_url": endpoint})
        for act in (lambda: store.write("one", b"1"), lambda: store.names(""), lambda: store.read("one")):
            with pytest.raises(StorageError, match=r"the store s3://bucket/x \(.+\); check that it can be reached"):
                act()


@pytest.mark.slow
def test_an_unknown_protocol_and_a_missing_package_are_sentences():
    with pytest.raises(StorageError, match="cannot open the store nonsense://x"):
        Store("nonsense://x").names("")


WRITES = """
import hashlib, sys
from lorweb.storage import Store
store = Store(sys.argv[1], eval(sys.argv[2]))
store.write("ready", b"")
for number in range(10**6):
    content = bytes([number % 256]) * (8 << 20)
    store.write("all/" + hashlib.sha256(content).hexdigest(), content)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_whole_objects_alone(shared):
    for turn in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITES, shared.uri, repr(dict(shared.options))])
        try:
            while shared.size("ready") is None:
                time.sleep(0.02)
            time.sleep(0.15 + 0.2 * turn)
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        shared.remove("ready")
    names = shared.names("all")
    assert names, "nothing was written before the kill"
    for name, size in names.items():
        assert size == 8 << 20 and hashlib.sha256(shared.read(f"all/{name}")).hexdigest() == name
