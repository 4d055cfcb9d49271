"""Damage that DVC itself does not see is found and named, and the command that is named brings the file back."""

import json
import os
import shutil
from pathlib import Path

import pytest

from lorweb.data.manifest import Manifest, write_manifest
from tests.versions.toy import dvc, git, save

pytestmark = pytest.mark.slow
SHARD = Path("data/pairs/part-00001.parquet")


def turn_a_byte(path: Path) -> None:
    """As a disk does: time, size and mode stay."""
    before = path.stat()
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(before.st_mode & 0o777)


def object_of(path: Path, store: Path = Path(".dvc/cache")) -> Path:
    from dvc_data.hashfile.hash import file_md5

    value = file_md5(str(path))
    return store / "files/md5" / value[:2] / value[2:]


def listing(store: Path = Path(".dvc/cache")) -> Path:
    (found,) = store.glob("files/md5/*/*.dir")
    return found


def commands(printed: str) -> list[str]:
    """What is proposed, after each arrow."""
    return [line.split("-> ")[1] for line in printed.splitlines() if "-> " in line]


def test_all_is_well(toy, verify):
    code, printed = verify("--all")
    assert code == 0 and "files of 5 outs" in printed and "0 damaged or changed, 0 missing" in printed


def test_a_damaged_object_is_named_and_comes_back_from_the_workspace(toy, verify):
    turn_a_byte(object_of(SHARD))
    dvc(toy, "status")
    code, printed = verify()
    assert code == 1 and len(commands(printed)) == 1
    assert f"cache     damaged    {SHARD} (made by make)" in printed and str(object_of(SHARD)) in printed
    assert commands(printed) == ["python -m pipelines.verify --discard, then dvc commit --force make"]
    assert verify("--discard")[0] == 1
    assert len(list(Path(".work/damaged").iterdir())) == 1 and not object_of(SHARD).exists()
    dvc(toy, "commit", "--force", "make")
    assert verify()[0] == 0


def test_a_damaged_object_comes_back_from_the_remote(toy, verify):
    dvc(toy, "remote", "add", "--default", "store", "../store")
    dvc(toy, "push")
    turn_a_byte(object_of(SHARD))
    shutil.rmtree("data")
    dvc(toy, "checkout")  # which copies the damage, without a word
    code, printed = verify()
    assert code == 1 and f"workspace damaged    {SHARD}" in printed
    assert commands(printed)[0].startswith("python -m pipelines.verify --discard, then dvc fetch make")
    verify("--discard")
    dvc(toy, "fetch", "make")
    SHARD.unlink()
    dvc(toy, "checkout", "--force", "data/pairs")
    assert verify()[0] == 0


def test_a_damaged_object_comes_back_from_its_stage(toy, verify):
    turn_a_byte(object_of(SHARD))
    turn_a_byte(SHARD)
    _, printed = verify("--discard")
    assert any("or dvc repro --force --single-item make" in command for command in commands(printed))
    dvc(toy, "repro", "--force", "--single-item", "make")
    assert verify()[0] == 0


def test_a_damaged_file_of_the_workspace_comes_back_from_the_cache(toy, verify):
    dvc(toy, "status")
    turn_a_byte(SHARD)
    dvc(toy, "checkout", "--force")  # which trusts time and size
    code, printed = verify()
    assert code == 1
    assert commands(printed) == [f"rm -r {SHARD} && dvc checkout --force data/pairs"]
    SHARD.unlink()
    dvc(toy, "checkout", "--force", "data/pairs")
    assert verify()[0] == 0


def test_a_damaged_list_of_files_comes_back(toy, verify):
    turn_a_byte(listing())
    code, printed = verify("--discard")
    assert code == 1 and "data/pairs (list of its files)" in printed
    assert commands(printed) == ["python -m pipelines.verify --discard, then dvc commit --force make"]
    dvc(toy, "commit", "--force", "make")
    assert verify()[0] == 0
    turn_a_byte(listing())
    turn_a_byte(SHARD)
    _, printed = verify()
    assert "cache     damaged" in printed and "workspace damaged" in printed


def test_a_remote_is_read_too(toy, verify):
    dvc(toy, "remote", "add", "--default", "store", "../store")
    dvc(toy, "push")
    assert verify("--remote")[0] == 0
    damaged, lost = object_of(SHARD, Path("../store")), object_of(Path("model.bin"), Path("../store"))
    turn_a_byte(damaged)
    lost.unlink()
    code, printed = verify("--remote", "store")
    assert code == 1 and f"remote    damaged    {SHARD}" in printed and "remote    missing    model.bin" in printed
    dvc(toy, "push")  # which sees the lost one alone
    code, printed = verify("--push")
    assert code == 1 and commands(printed) == ["python -m pipelines.verify --push"] and "put anew" in printed
    assert verify("--remote")[0] == 0


def test_what_git_keeps_and_what_nobody_knows(toy, verify):
    Path("metrics/make.json").write_text("{}")
    Path("data/pairs/stray.parquet").write_bytes(b"x")
    code, printed = verify()
    assert code == 1 and "metrics/make.json" in printed and "git checkout -- metrics/make.json" in printed
    assert "not listed data/pairs/stray.parquet" in printed
    git(toy, "checkout", "--", "metrics/make.json")
    Path("data/pairs/stray.parquet").unlink()
    assert verify()[0] == 0


def test_a_fresh_clone_says_what_to_fetch(toy, verify, tmp_path, monkeypatch):
    git(tmp_path, "clone", "--quiet", str(toy), "two")
    monkeypatch.chdir(tmp_path / "two")
    code, printed = verify()
    assert code == 1 and all(f"dvc fetch {name}" in printed for name in ("gather", "make", "use"))
    assert len(commands(printed)) == 8, "a line per out and place"


def test_other_versions_are_checked_on_request(toy, verify):
    old = object_of(SHARD)
    Path("params.yaml").write_text("make:\n  shards: 3\n  version: 2\n")
    dvc(toy, "repro")
    save(toy, "v2")
    turn_a_byte(old)
    assert verify()[0] == 0
    code, printed = verify("--all")
    assert code == 1 and "of another version" in printed and str(old) in printed


def test_damage_from_before_dvc_saw_the_files(toy, verify):
    write_manifest(Path("data/pairs"), Manifest(3, {}, {}, {}))
    turn_a_byte(SHARD)
    dvc(toy, "commit", "--force", "make")
    code, printed = verify()
    assert code == 1 and f"manifest  differs    {SHARD}" in printed and "cache" not in printed


def test_a_folder_that_was_made_from_another_version_of_its_input(toy, verify):
    write_manifest(Path("data/pairs"), Manifest(3, {"sources": "0" * 64}, {}, {}))
    Path("data/sources").mkdir()
    write_manifest(Path("data/sources"), Manifest(0, {}, {}, {}))
    dvc(toy, "commit", "--force", "make")
    code, printed = verify()
    assert code == 1 and "data/pairs was made from another data/sources" in printed
    (Path("data/pairs") / "_manifest.json").write_text(json.dumps({"schema_version": -1}))
    assert "manifest  unreadable" in verify()[1]


def test_an_unknown_remote_is_one_sentence(toy, monkeypatch):
    from pipelines import verify as command

    monkeypatch.setattr("sys.argv", ["verify", "--remote", "nowhere"])
    with pytest.raises(SystemExit, match="nowhere"):
        command.main()
