"""Is every file of this version here and whole? `python -m pipelines.verify` hashes them again and names what is not.

For each file that dvc.lock speaks of: its copy in the workspace, its object in DVC's cache and, with --remote, in a
remote. Each fault is named with the stage that made the file and the command that brings it back. Exit code 1 if there
is any. Folders of records are also held against the digests in their `_manifest.json`.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipelines._faults import DISCARD, Fault, faults_of, faults_of_manifest
from pipelines._integrity import (
    GOOD,
    MISSING,
    check_out,
    in_store,
    other_objects,
    versioned_outs,
)

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB

ASIDE: Final = Path(".work/damaged")  # where --discard puts what it takes out of the cache


@dataclass
class Count:
    """What was looked at."""

    outs: int = 0
    files: int = 0
    size: int = 0  # bytes in the workspace


def verify(repo: "Repo", store: "HashFileDB | None", every: bool, count: Count) -> Iterator[Fault]:
    """Faults as they are found; `store` is a remote, `every` adds objects of the cache that dvc.lock does not name."""
    seen: set[str] = set()
    for out in versioned_outs(repo):
        count.outs += 1
        for checked in check_out(out, store):
            count.files += not checked.listing
            count.size += checked.size
            seen |= {copy.value for copy in checked.copies.values()}
            yield from faults_of(checked)
        if out.use_cache and Path(out.fs_path).is_dir():
            yield from faults_of_manifest(out)
    if every:
        for value, copy in other_objects(repo.cache.local, seen):
            count.files += 1
            if copy.state != GOOD:
                remedy = f"{DISCARD} --all, then dvc fetch --all-commits (or --all-experiments)"
                yield Fault("cache", copy.state, "of another version", copy.path, "", remedy, value)


def discard(cache: "HashFileDB", values: Iterable[str]) -> Iterator[str]:
    """Move damaged objects out of the cache, so that DVC sees that they are missing; yields what was done."""
    for value in values:
        ASIDE.mkdir(parents=True, exist_ok=True)
        shutil.move(cache.oid_to_path(value), ASIDE / value)
        yield f"moved to {ASIDE / value}"


def push(cache: "HashFileDB", store: "HashFileDB", values: Iterable[str]) -> Iterator[str]:
    """Put objects of the cache that are good in the place of those that are damaged or missing in a remote."""
    for value in values:
        if in_store(cache, value).state == GOOD:
            store.add(cache.oid_to_path(value), cache.fs, value, check_exists=False)
            yield f"put anew: {store.oid_to_path(value)}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipelines.verify", description=__doc__)
    parser.add_argument(
        "--remote", nargs="?", const="", metavar="NAME", help="a remote too (the default one if unnamed)"
    )
    parser.add_argument("--all", action="store_true", help="every object of the cache: other versions, experiments")
    parser.add_argument("--discard", action="store_true", help=f"move damaged objects from the cache to {ASIDE}")
    parser.add_argument(
        "--push", action="store_true", help="put good objects over damaged or missing ones of the remote"
    )
    given = parser.parse_args()
    if given.push and given.remote is None:
        given.remote = ""
    return given


def _mended(repo: "Repo", store: "HashFileDB | None", given: argparse.Namespace, faults: list[Fault]) -> Iterator[str]:
    if given.discard:
        yield from discard(repo.cache.local, sorted({f.value for f in faults if f.place == "cache" and f.damaged}))
    if given.push and store is not None:
        yield from push(repo.cache.local, store, sorted({f.value for f in faults if f.place == "remote"}))


def main() -> None:
    """Check, say, and end with 1 if there is a fault."""
    given = _options()
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    started, count, faults = time.monotonic(), Count(), []
    try:
        with Repo() as repo:
            store = None if given.remote is None else repo.cloud.get_remote_odb(given.remote or None, "verify")
            for fault in verify(repo, store, given.all, count):
                print(fault, flush=True)
                faults.append(fault)
            for done in _mended(repo, store, given, faults):
                print(done, flush=True)
    except (DvcException, OSError) as error:
        raise SystemExit(f"verify: {error}") from error
    missing = sum(fault.state == MISSING for fault in faults)
    seen = f"{count.files} files of {count.outs} outs, {count.size / 2**20:.1f} MiB"
    verdict = f"{len(faults) - missing} damaged or changed, {missing} missing"
    print(f"{seen} in {time.monotonic() - started:.1f} s: {verdict}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
