"""Push this version, and what lets every clone take an earlier run back: `python -m pipelines.push`, or `make push`.

`dvc push --run-cache` sends the records of earlier runs, but not the metrics of those runs, which git keeps and DVC
does not: elsewhere, `dvc repro --pull` would run the stages again for want of a few small files. They are sent too.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo


def push(repo: "Repo", remote: str | None = None) -> int:
    """Send data, models, records of runs and the metrics of these; returns the number of files that were sent.

    Raises:
        DvcException: no remote, or it cannot be reached or written.
    """
    sent: int = repo.push(remote=remote, run_cache=True)
    result = repo.cloud.push(metrics_of_runs(repo), remote=remote)
    return sent + len(result.transferred)


def metrics_of_runs(repo: "Repo") -> "set[HashInfo]":
    """Hashes of what earlier runs left for git to keep, as far as the cache still has it."""
    kept_by_git = {out.def_path for out in repo.index.outs if not out.use_cache}
    runs = [(path.parent.name, path.name) for path in Path(repo.stage_cache.cache_dir).glob("*/*/*")]
    used = repo.stage_cache.get_used_objs(runs)
    found = {value for values in used.values() for value in values if value.obj_name in kept_by_git}
    return {value for value in found if repo.cache.local.exists(value.value)}


def main() -> None:
    """Push, and say how much."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.push", description=__doc__)
    parser.add_argument("-r", "--remote", metavar="NAME", help="the default one if unnamed")
    given = parser.parse_args()
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            sent = push(repo, given.remote)
    except (DvcException, OSError) as error:
        raise SystemExit(f"push: {error}") from error
    print(f"{sent} files sent")


if __name__ == "__main__":
    main()
