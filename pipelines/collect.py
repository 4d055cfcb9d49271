"""Source images from packages and folders -> data/sources."""

from pathlib import Path
from typing import Any, Final

from lorweb.config import Collect, load_params
from lorweb.data.checks import Refusal, reject
from lorweb.data.manifest import Manifest, write_manifest
from lorweb.data.readers import Location, ReaderConfig, build_reader
from lorweb.data.rejects import Rejected
from lorweb.data.shards import write_rows, write_shards
from lorweb.records import REJECT, SOURCE, stable_id
from pipelines._metrics import count
from pipelines._rows import Execute, Item, Result, RowJob, run_rows
from pipelines._stage import publishing, stage

VERSION: Final = 1  # goes up when the same parameters would give other sources
OUT: Final = Path("data/sources")


class ReadSources:
    """The worker: locations -> source rows."""

    def __init__(self, readers: tuple[ReaderConfig, ...], size: int, max_pixels: int) -> None:
        self.readers = [build_reader(cfg) for cfg in readers]
        self.size, self.max_pixels = size, max_pixels

    def __call__(self, items: list[Item]) -> list[Result]:
        return [self._read(item) for item in items]

    def _read(self, item: Item) -> Result:
        number, uri = item["at"]
        try:
            return dict(self.readers[number].read(Location(item["origin"], uri), self.size, self.max_pixels))
        except Rejected as why:
            return why


def locate(cfg: Collect) -> list[Item]:
    """Every location of every reader, named as its source will be named.

    A file is known by its size and time of change too, so that a replaced file is read again. Raises ValueError where
    two readers give one source.
    """
    items: dict[str, Item] = {}
    for number, reader in enumerate(cfg.readers):
        licence = getattr(reader, "licence", None)  # the one parameter of a reader that goes into its rows
        for place in build_reader(reader).locations():
            name = stable_id(place.origin)
            if name in items:
                raise ValueError(f"two entries of collect.readers give the source '{place.origin}'; rename or drop one")
            facts = {"id": name, "origin": place.origin, "licence": licence, "file": _state(place.uri)}
            items[name] = {**facts, "at": [number, place.uri]}
    return list(items.values())


def _state(uri: str) -> list[int]:
    path = Path(uri)
    if not uri or not path.is_file():
        return []
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def repeated(rows: list[dict[str, Any]]) -> dict[str, Rejected]:
    """Sources whose bytes an earlier one already brought: {id: why}. Rows come in order of id, the first stays."""
    first: dict[str, str] = {}
    found: dict[str, Rejected] = {}
    for row in rows:
        kept = first.setdefault(row["sha256"], row["id"])
        if kept != row["id"]:
            found[row["id"]] = Rejected("duplicate", f"the same image, byte for byte, as source {kept}")
    return found


def main(execute: Execute | None = None) -> None:
    """Run the stage from its parameters, on Ray unless another executor is given."""
    params = load_params()
    cfg = params.collect
    with stage("collect") as metrics:
        items = locate(cfg)
        recipe = cfg.model_dump(mode="json", include={"size", "max_pixels", "readers"})
        job = RowJob(
            stage="collect",
            function="read",
            worker=ReadSources,
            arguments=(cfg.readers, cfg.size, cfg.max_pixels),
            identity=(VERSION, cfg.size, cfg.max_pixels),
            schema=SOURCE,
            pool=cfg.pool,
            max_error_rate=cfg.max_error_rate,
        )
        results = run_rows(job, items, execute)
        twice = repeated(results.index(["id", "sha256"]))
        rejects = results.rejects + [reject(Refusal(i, "collect", {}), why) for i, why in twice.items()]
        with publishing(OUT, "collect") as folder:
            rows = write_shards(results.tables(without=twice), folder, SOURCE)
            write_rows(rejects, folder / "rejects", REJECT)
            write_manifest(folder, Manifest(rows, {}, recipe, {"read": VERSION}))
        metrics.update(count(len(items), rows, rejects, {"read": results.pace}))


if __name__ == "__main__":
    main()
