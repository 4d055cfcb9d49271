"""Prepare the release of a data set: `python -m pipelines.release` writes what goes into git beside the tag.

`release/README.md` is the data card; `release/licences.json` says which licences and editors the pairs are under, from
how many sources of which collection, and the content hash of each folder that it speaks of. Refused where a pair has no
licence, or where files differ from their manifest's digests.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from lorweb.data.manifest import MANIFEST, file_sha256, fingerprint, read_manifest
from lorweb.data.shards import read_table
from lorweb.records import PAIR
from pipelines._stage import write_text

OUT: Final = Path("release")
DATA: Final = ("sources", "pairs", "analogies")  # what a release names; the rest is made of it
CARD: Final = Path("data/analogies/README.md")
NAMED: Final = 5  # ids in a sentence
COLUMNS: Final = ("id", "source_id", "category", "editor", "editor_revision", "licence")


def licence_record(pairs: Iterable[Mapping[str, str]], folders: Mapping[str, str]) -> dict[str, Any]:
    """Per licence its pairs, sources and collections; the editors; the content hash of each folder.

    Raises:
        ValueError: pairs without a licence; names the first.
    """
    pairs = list(pairs)
    if nameless := [pair["id"] for pair in pairs if not pair["licence"].strip()]:
        raise ValueError(
            f"{len(nameless)} pairs have no licence, as {', '.join(nameless[:NAMED])}; give `licence` to their reader "
            "under collect.readers, and run the pipeline again"
        )
    by_licence: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for pair in pairs:
        by_licence[pair["licence"]].append(pair)
    editors = Counter(f"{pair['editor']} {pair['editor_revision']}".strip() for pair in pairs)
    return {
        "folders": dict(folders),
        "licences": {name: _numbers(found) for name, found in sorted(by_licence.items())},
        "editors": dict(sorted(editors.items())),
    }


def _numbers(pairs: list[Mapping[str, str]]) -> dict[str, Any]:
    return {
        "pairs": len(pairs),
        "sources": len({pair["source_id"] for pair in pairs}),
        "pairs_by_category": dict(sorted(Counter(pair["category"] for pair in pairs).items())),
    }


def intact(folder: Path) -> str:
    """The content hash of a published folder. Raises ValueError where a file is not what its manifest says."""
    files = read_manifest(folder)["files"]
    wrong = [name for name, sha256 in files.items() if not _is(folder / name, sha256)]
    if wrong:
        raise ValueError(f"{folder / wrong[0]} is not what {folder / MANIFEST} says; see python -m pipelines.verify")
    return fingerprint(folder)


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def main() -> None:
    """Write both files."""
    try:
        folders = {f"data/{name}": intact(Path("data") / name) for name in DATA}
        table = read_table(Path("data/pairs"), PAIR, columns=list(COLUMNS))
        record = licence_record(table.to_pylist(), folders)
        write_text(OUT / CARD.name, CARD.read_text(encoding="utf-8"))
        write_text(OUT / "licences.json", json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    except (OSError, ValueError) as error:
        raise SystemExit(f"release: {error}") from error
    named = ", ".join(f"{name} ({found['pairs']} pairs)" for name, found in record["licences"].items())
    print(f"{OUT}/: data card and licences: {named}")
    print(f"now commit {OUT}/ and dvc.lock, tag that commit, and push: docs/versions.md")


if __name__ == "__main__":
    main()
