"""Files by content: inventories, what travels, what is damaged, and what a node fetches once."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorweb.storage import Inventory, StorageError, Store, children, local, places, restore, shelve, take_stock
from lorweb.storage.blobs import blob_key
from lorweb.storage.hashes import Hashes

NAMES = st.lists(st.text("abcé _.", min_size=1, max_size=4).filter(lambda n: n.strip(".")), min_size=1, max_size=3)
TREES = st.dictionaries(NAMES.map("/".join), st.binary(max_size=50), max_size=6)


def write_tree(root: Path, tree: dict[str, bytes]) -> dict[str, bytes]:
    """What of a tree a file system can hold: a name cannot be a file and a folder."""
    written = {}
    for name, content in tree.items():
        path = root / name
        if any(parent.is_file() for parent in path.parents) or path.is_dir():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written[name] = content
    return written


def read_tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.slow
@settings(max_examples=25)
@given(TREES, TREES)
def test_a_folder_comes_back_as_it_was_and_equal_contents_travel_once(tree, other):
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORWEB_NODE_FOLDER", f"{place}/node")
        here, there, store = Path(place, "here/data"), Path(place, "there"), Store(f"{place}/store")
        here.mkdir(parents=True)
        tree = {name: content for name, content in write_tree(here, tree).items() if not name.endswith(".tmp")}
        inventory = shelve(store, here.parent, ["data", "missing"])
        assert Inventory.of_json(inventory.to_json()) == inventory
        assert set(inventory.files) == {f"data/{name}" for name in tree} == set(inventory.below("data"))
        assert len(store.find("blobs")) == len(set(tree.values()))
        (there / "data").mkdir(parents=True)
        write_tree(there / "data", {name: content for name, content in other.items() if name in tree})
        restore(store, inventory, there)
        assert read_tree(there / "data") == tree
        assert restore(store, inventory, there) == 0


def test_a_hash_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("LORWEB_NODE_FOLDER", str(tmp_path / "node"))
    file = tmp_path / "data/one"
    file.parent.mkdir()
    file.write_bytes(b"first")
    old = time.time_ns() - 10**10
    os.utime(file, ns=(old, old))
    first = take_stock(tmp_path, ["data"])
    with Hashes(tmp_path) as hashed:
        monkeypatch.setattr("lorweb.storage.hashes.file_sha256", lambda _: pytest.fail("hashed again"))
        assert hashed(file) == first.files["data/one"][0]
    monkeypatch.undo()
    monkeypatch.setenv("LORWEB_NODE_FOLDER", str(tmp_path / "node"))
    file.write_bytes(b"other")
    os.utime(file, ns=(old, old + 1))
    assert take_stock(tmp_path, ["data"]) != first


def test_a_file_that_has_just_changed_is_hashed_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("LORWEB_NODE_FOLDER", str(tmp_path / "node"))
    file, seen = tmp_path / "one", set()
    for content in (b"first", b"other"):
        file.write_bytes(content)
        os.utime(file, ns=(now := time.time_ns() // 10**9 * 10**9, now))  # a file system with coarse times
        seen.add(take_stock(tmp_path, ["one"]).files["one"][0])
    assert len(seen) == 2


@pytest.mark.slow
def test_a_damaged_blob_is_named_removed_and_put_back(shared, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/one").write_bytes(b"content")
    inventory = shelve(shared, tmp_path / "here", ["one"])
    key = blob_key(inventory.files["one"][0])
    shared.write(key, b"c0ntent")
    with pytest.raises(StorageError, match=f"{key} in the store .* was damaged .* submit the stage again"):
        restore(shared, inventory, tmp_path / "there")
    assert not read_tree(tmp_path / "there") and shared.size(key) is None
    with pytest.raises(StorageError, match=f"lacks {key}, which should hold one"):
        restore(shared, inventory, tmp_path / "there")
    shelve(shared, tmp_path / "here", ["one"])
    assert restore(shared, inventory, tmp_path / "there") == 1


READER = """
import json, sys
from pathlib import Path
from lorweb.storage import Inventory, Store, bind, children, local, places
real = places.fetch_blob
def fetch(store, sha256, target):
    with open(sys.argv[4], "a") as log:
        log.write(sha256 + "\\n")
    real(store, sha256, target)
places.fetch_blob = fetch
bind(Store(sys.argv[1], json.loads(sys.argv[2])), Inventory.of_json(sys.argv[3]))
names = [path.name for path in children(Path("data"), "part-*")]
wanted = Path("data") / names[0]
print(json.dumps([names, local(wanted).read_text(), sorted(p.name for p in Path("data").glob("part-?"))]))
"""


@pytest.mark.slow
def test_processes_of_a_node_fetch_what_they_touch_once(shared, tmp_path):
    (tmp_path / "here/data").mkdir(parents=True)
    for name in ("part-0", "part-1", "other"):
        (tmp_path / "here/data" / name).write_text(name * 1000)
    inventory = shelve(shared, tmp_path / "here", ["data"])
    words = [shared.uri, json.dumps(dict(shared.options)), inventory.to_json(), str(tmp_path / "log")]
    readers = [
        subprocess.Popen([sys.executable, "-c", READER, *words], stdout=subprocess.PIPE, cwd=tmp_path, text=True)
        for _ in range(4)
    ]
    told = [json.loads(reader.communicate(timeout=120)[0]) for reader in readers]
    assert told == [[["part-0", "part-1"], "part-0" * 1000, ["part-0"]]] * 4
    assert (tmp_path / "log").read_text().split() == [inventory.files["data/part-0"][0]]


def test_old_mirrors_go_and_one_that_is_read_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("LORWEB_NODE_FOLDER", str(tmp_path / "node"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "_bound", [])
    store, root = Store(str(tmp_path / "store")), tmp_path / "here"
    root.mkdir()
    roots = []
    for number in range(places.KEPT_MIRRORS + 3):
        (root / "one").write_text(str(number))
        (root / "one").touch()
        mirror = places.bind(store, shelve(store, root, ["one"]))
        assert local(Path("one")).read_text() == str(number) and children(Path(), "one") == [Path("one")]
        os.utime(mirror, (number, number))
        roots.append(mirror)
        if number == 0:
            held = places._bound.pop()  # as if another process went on with it
    assert roots[0].exists() and not roots[1].exists() and roots[-1].exists()
    blobs = [path for path in (places.node_folder(store) / "blobs").iterdir() if path.suffix != ".lock"]
    assert len(blobs) == sum(path.exists() for path in roots) < len(roots)
    held.held.close()
