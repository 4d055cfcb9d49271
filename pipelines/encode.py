"""Latents, text embeddings and encoder features, each computed once -> data/encoded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lorweb.basis.query import mode_of
from lorweb.config import Encode, load_params
from lorweb.data.manifest import Manifest, fingerprint, read_manifest, write_manifest
from lorweb.data.shards import read_index, read_table, write_shards
from lorweb.records import (
    ANALOGY,
    DERIVED,
    ENCODED_GRID,
    ENCODED_IMAGE,
    ENCODED_PAIR,
    ENCODED_TEXT,
    PAIR,
    TRAIN_PAIR,
    stable_id,
)
from lorweb.training.stored import view_key
from pipelines._encode_grids import grid_items, sizes
from pipelines._encode_workers import EncodeGrids, EncodeImages, EncodeTexts
from pipelines._launch import hand_over
from pipelines._metrics import count
from pipelines._rows import Execute, Item, RowJob, run_rows
from pipelines._stage import publishing, stage

VERSION: Final = 1
OUT, PAIRS, ANALOGIES = Path("data/encoded"), Path("data/pairs"), Path("data/analogies")


@dataclass(frozen=True)
class Used:
    """What training or evaluation will ask for; the instruction "" is the prompt that says nothing."""

    pairs: set[str]
    trained: set[str]  # the pairs whose images training sees
    derived: dict[str, dict[str, str]]  # further pairs, made of sides of those: rows of `records.DERIVED`
    texts: set[str]


def used() -> Used:
    """Pairs and instructions of data/analogies."""
    train = read_table(ANALOGIES / "train", TRAIN_PAIR, ["pair", "instruction"]).to_pylist()
    derived = {row.pop("pair"): row for row in read_table(ANALOGIES / "derived", DERIVED).to_pylist()}
    listed = read_table(ANALOGIES, ANALOGY, ["exemplar", "query", "instruction"]).to_pylist()
    trained = {r["pair"] for r in train} - set(derived)
    trained |= {row[f"{side}_pair"] for row in derived.values() for side in ("before", "after")}
    listed_pairs = {r["exemplar"] for r in listed} | {r["query"] for r in listed}
    texts = {""} | {r["instruction"] for r in train} | {r["instruction"] for r in listed}
    return Used(trained | listed_pairs, trained, derived, texts)


def distinct_images(asked: Used, views: int) -> tuple[list[Item], list[dict[str, str]]]:
    """Items of the images to encode, each once by content and view, and the rows of `records.ENCODED_PAIR`.

    View 0 is the whole image; the others, `views` in number, are of the images that training draws from.
    """
    images: dict[str, Item] = {}
    links: dict[str, dict[str, str]] = {}
    for row in read_index(PAIRS, PAIR, ["id"], digests=["before", "after"]):
        if row["id"] not in asked.pairs:
            continue
        names = {side: row[f"{side}_sha256"] for side in ("before", "after")}
        for side, sha256 in names.items():
            for view in range(1 + views if row["id"] in asked.trained else 1):
                name = view_key(sha256, view)
                images.setdefault(name, {"id": name, "at": [row["at"], side], "view": view})
        links[row["id"]] = names
    for pair, of in asked.derived.items():
        links[pair] = {side: links[of[f"{side}_pair"]][of[f"{side}_side"]] for side in ("before", "after")}
    return list(images.values()), [{"pair": pair, **names} for pair, names in links.items()]


def revisions(cfg: Encode) -> dict[str, str]:
    """What identifies the frozen networks."""
    from lorweb.basis.encoders import load_encoder
    from lorweb.kontext.files import base_revision
    from lorweb.kontext.load import resolve

    encoder = load_encoder(cfg.encoder)
    return {"base": base_revision(resolve(cfg.base)), "encoder": encoder.revision}


def main(execute: Execute | None = None) -> None:
    """Run the stage from its parameters, on Ray unless another executor is given."""
    params = load_params()
    cfg = params.encode
    with stage("encode") as metrics:
        asked = used()
        texts = asked.texts
        images, links = distinct_images(asked, cfg.views.count)
        known = revisions(cfg)
        where = str(PAIRS)
        views = (cfg.views.smallest, cfg.views.flips) if cfg.views.count else ()
        how = (cfg.latents, cfg.dtype)
        seen = (known["base"], cfg.quadrant, known["encoder"], mode_of(cfg.query_mode).levels, *how, *views)
        image_job = row_job(cfg, "images", EncodeImages, (cfg, where), seen)
        text_job = row_job(cfg, "texts", EncodeTexts, (cfg,), (known["base"], cfg.dtype))
        grids = grid_items(cfg, ANALOGIES, images, links)
        grid_job = row_job(cfg, "grids", EncodeGrids, (cfg, where), (*seen, cfg.query_mode))
        image_rows = run_rows(image_job, images, execute)
        grid_rows = run_rows(grid_job, grids, execute) if grids else None
        text_rows = run_rows(text_job, [{"id": stable_id("text", t), "text": t} for t in sorted(texts)], execute)
        with publishing(OUT, "encode") as folder:
            rows = write_shards(image_rows.tables(), folder, ENCODED_IMAGE)
            write_shards(text_rows.tables(), folder / "text", ENCODED_TEXT)
            if grid_rows is not None:
                write_shards(grid_rows.tables(), folder / "grids", ENCODED_GRID)
            pq.write_table(pa.Table.from_pylist(links, ENCODED_PAIR), folder / "pairs.parquet")
            write_manifest(folder, manifest(cfg, known, rows))
        paces = {"images": image_rows.pace, "texts": text_rows.pace}
        paces |= {"grids": grid_rows.pace} if grid_rows is not None else {}
        metrics.update(count(len(images), rows, [], paces), texts=len(text_rows), pairs=len(links), grids=len(grids))
        metrics["bytes_per_1000_analogies"] = sizes(image_rows, text_rows, grid_rows)


def row_job(cfg: Encode, function: str, worker: Any, arguments: tuple[Any, ...], identity: tuple[Any, ...]) -> RowJob:
    """All functions of this stage. An image that cannot be encoded was damaged since the filter: none may fail."""
    schema = {"images": ENCODED_IMAGE, "texts": ENCODED_TEXT, "grids": ENCODED_GRID}[function]
    reads = () if function == "texts" else (str(PAIRS),)
    job = RowJob("encode", function, worker, arguments, (VERSION, *identity), schema, cfg.pool, max_error_rate=0.0)
    return replace(job, reads=reads)


def manifest(cfg: Encode, known: Mapping[str, str], rows: int) -> Manifest:
    """What training and the checkpoint have to know about the encoded data."""
    recipe = cfg.model_dump(mode="json", exclude={"pool"})
    recipe |= {"base_revision": known["base"], "encoder_revision": known["encoder"]}
    recipe["catalogue_sha256"] = read_manifest(ANALOGIES)["params"]["catalogue_sha256"]
    inputs = {"pairs": fingerprint(PAIRS), "analogies": fingerprint(ANALOGIES)}
    return Manifest(rows, inputs, recipe, {"encode": VERSION})


if __name__ == "__main__":
    hand_over("encode")
    main()
