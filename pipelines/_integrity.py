"""Every file that dvc.lock speaks of, hashed again, in the workspace, in DVC's cache or in a remote.

DVC itself trusts a file of the cache that is read-only, and a file of the workspace whose time and size are as it last
saw them; so neither `dvc status` nor `dvc checkout` notices a disk that has turned a bit. Nothing here writes.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.tree import Tree

GOOD, DAMAGED, MISSING, NOT_LISTED = "good", "damaged", "missing", "not listed"
THREADS: Final = 4  # hashing and reading leave the interpreter's lock


@dataclass(frozen=True)
class Copy:
    """One file of an out, at one place: what was found there, its path at that place, the hash it should have."""

    state: str
    path: str
    value: str = ""


@dataclass(frozen=True)
class Checked:
    """A file of an out and the copies of it that were looked at. `name` is its path in the project.

    `listing`: not a file, but the list of names and hashes that DVC keeps of a folder. `copies`: place -> copy.
    """

    name: str
    out: "Output"
    size: int
    copies: dict[str, Copy]
    listing: bool = False

    @property
    def whole(self) -> bool:
        """All copies are good."""
        return all(copy.state == GOOD for copy in self.copies.values())


def versioned_outs(repo: "Repo") -> "Iterator[Output]":
    """Outs with a hash in dvc.lock or a .dvc file; not what a stage leaves in git that runs each time anyhow."""
    for stage in repo.index.stages:
        yield from (out for out in stage.outs if out.hash_info and not (stage.always_changed and not out.use_cache))


def check_out(out: "Output", remote: "HashFileDB | None" = None) -> list[Checked]:
    """All files of an out. A folder whose listing is lost is checked as a whole, by the listing of its workspace."""
    if not out.use_cache:
        path = Path(out.fs_path)
        return [Checked(shown(out.fs_path), out, size_of(path), {"workspace": at(path, out.hash_info.value)})]
    places = {"cache": out.cache} | ({"remote": remote} if remote is not None else {})
    if not out.hash_info.isdir:
        return [_file(out, shown(out.fs_path), Path(out.fs_path), out.hash_info.value, places)]
    listed = {place: in_store(store, out.hash_info.value) for place, store in places.items()}
    found = [Checked(shown(out.fs_path), out, 0, listed, listing=True)]
    whole = next((store for place, store in places.items() if listed[place].state == GOOD), None)
    if whole is None:
        files = _unlisted(out)
        found[0].copies.update(files.copies)  # a good folder is as good as its listing
        return [*found, files] if files.whole else found
    return [*found, *_files(out, tree_of(whole, out), places)]


def _files(out: "Output", tree: "Tree", places: "dict[str, HashFileDB]") -> list[Checked]:
    folder = Path(out.fs_path)
    entries = [("/".join(parts), found.value) for parts, _, found in tree]
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = [
            pool.submit(_file, out, shown(str(folder / name)), folder / name, value, places) for name, value in entries
        ]
        found = [job.result() for job in jobs]
    known = {name for name, _ in entries}
    extra = [name for name in files_below(folder) if name not in known]
    return found + [
        Checked(shown(str(folder / name)), out, 0, {"workspace": Copy(NOT_LISTED, str(folder / name))})
        for name in extra
    ]


def _file(out: "Output", name: str, path: Path, value: str, places: "dict[str, HashFileDB]") -> Checked:
    copies = {place: in_store(store, value) for place, store in places.items()}
    return Checked(name, out, size_of(path), {**copies, "workspace": at(path, value)})


def _unlisted(out: "Output") -> Checked:
    """The whole folder of the workspace against the hash of its listing."""
    from dvc_data.hashfile.hash import file_md5
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree

    folder, tree = Path(out.fs_path), Tree()
    names = files_below(folder)
    for name in names:
        tree.add(tuple(name.split("/")), Meta(), HashInfo("md5", file_md5(str(folder / name))))
    tree.digest()
    same = tree.hash_info.value == out.hash_info.value
    state = GOOD if same else DAMAGED if names else MISSING
    size = sum(size_of(folder / name) for name in names)
    return Checked(f"{shown(out.fs_path)}/", out, size, {"workspace": Copy(state, str(folder))})


def at(path: Path, value: str) -> Copy:
    """A file of this machine against its md5; a folder that stands in its place counts as damaged."""
    return _against(value, str(path), path.exists, partial(_local_md5, path))


def in_store(store: "HashFileDB", value: str) -> Copy:
    """An object of a cache or remote against the hash that is its name."""
    from dvc_data.hashfile.hash import file_md5

    path = store.oid_to_path(value)
    return _against(value, path, partial(store.fs.exists, path), partial(file_md5, path, store.fs, name="md5"))


def _against(value: str, path: str, exists: Callable[[], bool], md5: Callable[[], str]) -> Copy:
    try:
        if not exists():
            return Copy(MISSING, path, value)
        return Copy(GOOD if md5() == value.removesuffix(".dir") else DAMAGED, path, value)
    except OSError:  # a disk that gives an error in the place of bytes
        return Copy(DAMAGED, path, value)


def _local_md5(path: Path) -> str:
    from dvc_data.hashfile.hash import file_md5

    return file_md5(str(path)) if path.is_file() else ""


def tree_of(store: "HashFileDB", out: "Output") -> "Tree":
    """Names and hashes of an out's files, from a listing that is good."""
    from dvc_data.hashfile.tree import Tree

    return Tree.load(store, out.hash_info)


def other_objects(store: "HashFileDB", seen: set[str]) -> Iterator[tuple[str, Copy]]:
    """(hash, copy) of each object of a cache that is not in `seen`: of other versions and of experiments."""
    values = sorted(value for value in store.all() if value not in seen)
    with ThreadPoolExecutor(THREADS) as pool:
        yield from zip(values, pool.map(partial(in_store, store), values), strict=True)


def files_below(folder: Path) -> list[str]:
    """Names of all files, relative, sorted; [] where there is no such folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def shown(path: Any) -> str:
    """A path as a person would write it in the project."""
    path, here = Path(path), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)
