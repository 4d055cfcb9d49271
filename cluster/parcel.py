"""What travels between a submitter and its job: files by content, through the store, and which folders are empty."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lorweb.storage import Inventory, Store, restore, shelve
from lorweb.storage.blobs import blob_key, check_inside
from lorweb.storage.locks import locked
from pipelines._stage import swap_into_place


@dataclass(frozen=True)
class Parcel:
    """Files and folders at or below some paths of a project, as they were."""

    inventory: Inventory
    folders: tuple[str, ...] = ()  # of those paths, the folders: one of them may hold no file

    def to_json(self) -> str:
        """Canonical: equal parcels give equal text."""
        return json.dumps({"files": json.loads(self.inventory.to_json()), "folders": sorted(self.folders)})

    @classmethod
    def of_json(cls, text: str) -> "Parcel":
        """Read what `to_json` wrote. Raises StorageError: a path in it leads out of the project's folder."""
        read = json.loads(text)
        for folder in read["folders"]:
            check_inside(folder)
        return cls(Inventory.of_json(json.dumps(read["files"])), tuple(read["folders"]))


def pack(store: Store, root: Path, paths: Iterable[str]) -> Parcel:
    """Put what lies at or below `paths` into the store. What is missing is left out. Raises StorageError."""
    listed = list(paths)
    return Parcel(shelve(store, root, listed), tuple(path for path in listed if (root / path).is_dir()))


def whole(store: Store, parcel: Parcel) -> bool:
    """Whether the store still holds every content of a parcel, as far as sizes tell. Raises StorageError."""
    return all(store.size(blob_key(sha256)) == size for sha256, size in set(parcel.inventory.files.values()))


def unpack(store: Store, parcel: Parcel, root: Path, paths: Iterable[str]) -> int:
    """Make `paths` below `root` what the parcel says, nothing else; returns how many files were fetched.

    For a folder that nobody else looks at: files change one by one. Raises StorageError.
    """
    wanted: dict[str, tuple[str, int]] = {}
    for path in paths:
        at, kept = root / path, parcel.inventory.below(path)
        wanted |= kept
        for file in [at] if at.is_file() else at.rglob("*"):
            if not file.is_dir() and file.relative_to(root).as_posix() not in kept:
                file.unlink()
        if path in parcel.folders:
            at.mkdir(parents=True, exist_ok=True)
    return restore(store, Inventory(wanted), root)


def clear(root: Path, paths: Iterable[str]) -> None:
    """Remove files and folders."""
    for place in (root / path for path in paths):
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)


def deliver(store: Store, parcel: Parcel, root: Path, paths: Iterable[str], aside: Path) -> int:
    """Put `paths` of a parcel in their places below `root`, each whole or not at all; returns how many were fetched.

    All are fetched to `aside`, on the same file system, and checked before the first moves: whoever is killed here
    leaves the old content or the new, and the next try goes on with what has been fetched. One process at a time: a
    second submitter of the same job waits, and delivers the same again. Raises StorageError.
    """
    aside.parent.mkdir(parents=True, exist_ok=True)
    with locked(aside.parent / "lock"):
        for old in aside.parent.glob(f"{aside.name.rpartition('-')[0]}-*"):
            if old != aside:  # of a killed submitter, and of inputs that the stage no longer has
                shutil.rmtree(old, ignore_errors=True)
        return _deliver(store, parcel, root, list(paths), aside)


def _deliver(store: Store, parcel: Parcel, root: Path, listed: list[str], aside: Path) -> int:
    fetched = unpack(store, parcel, aside, listed)
    for path in listed:
        new, place = aside / path, root / path
        if not new.exists():  # the job made none
            clear(root, [path])
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if new.is_dir():
            swap_into_place(new, place)
        else:
            new.replace(place)
    shutil.rmtree(aside)
    return fetched
