"""Latents, text embeddings and encoder features, each computed once -> data/encoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lorweb.basis.query import mode_of, sees_grid
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
from lorweb.training.dataset import grid_key, load_train_pairs, view_key
from lorweb.training.sampler import AnalogySampler, other_exemplar
from pipelines._encode_workers import EncodeGrids, EncodeImages, EncodeTexts
from pipelines._metrics import count
from pipelines._results import Results
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


def wanted_grids(cfg: Encode) -> list[tuple[str, str]]:
    """(exemplar, query) pair ids of every analogy whose grid may be asked for; [] for modes that see single images.

    The training pool, and each listed analogy with its own and with another task's exemplar.
    """
    if sees_grid(cfg.query_mode) != bool(cfg.grid_analogies):
        wants = (
            "looks at grids; set it to how many" if sees_grid(cfg.query_mode) else "sees single images; set it to 0:"
        )
        raise ValueError(
            f"encode.grid_analogies is {cfg.grid_analogies}, but query_mode '{cfg.query_mode}' {wants} training "
            "analogies are to be encoded as grids"
        )
    if not cfg.grid_analogies:
        return []
    sampler = AnalogySampler(load_train_pairs(ANALOGIES), 0, 1, 1.0)
    drawn = [sampler.pooled(index) for index in range(cfg.grid_analogies)]
    found = {(exemplar.pair, query.pair) for exemplar, query in drawn}
    listed = read_table(ANALOGIES, ANALOGY).to_pylist()
    for split in ("val", "test"):
        rows = [row for row in listed if row["split"] == split]
        found |= {(row["exemplar"], row["query"]) for row in rows}
        found |= {(other_exemplar(row, rows) or row["exemplar"], row["query"]) for row in rows}
    return sorted(found)


def grid_items(cfg: Encode, images: list[Item], links: list[dict[str, str]]) -> list[Item]:
    """Items of the grids to encode, each once by content: of a, a', b, and of a, a, b for the control without edit."""
    place = {item["id"]: item["at"] for item in images}
    pair = {link["pair"]: link for link in links}
    items: dict[str, Item] = {}
    for exemplar, query in wanted_grids(cfg):
        a, a2, b = pair[exemplar]["before"], pair[exemplar]["after"], pair[query]["before"]
        for names in ((a, a2, b), (a, a, b)):
            items.setdefault(grid_key(*names), {"id": grid_key(*names), "at": [place[name] for name in names]})
    return [items[key] for key in sorted(items)]


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
        where = str(PAIRS.resolve())
        views = (cfg.views.smallest, cfg.views.flips) if cfg.views.count else ()
        seen = (known["base"], cfg.quadrant, known["encoder"], mode_of(cfg.query_mode).levels, *views)
        image_job = row_job(cfg, "images", EncodeImages, (cfg, where), seen)
        text_job = row_job(cfg, "texts", EncodeTexts, (cfg,), (known["base"],))
        grids = grid_items(cfg, images, links)
        grid_job = row_job(cfg, "grids", EncodeGrids, (cfg, where), (*seen[1:], cfg.query_mode))
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
        metrics["bytes_per_1000_analogies"] = sizes(image_rows, text_rows)


def sizes(images: Results, texts: Results) -> dict[str, int]:
    """Bytes that 1000 training analogies read: as they are stored, where four images and a text are shared by many,
    and as they would be if each analogy kept its own target and control grid, query and text.
    """
    image, text = (_tensor_bytes(results) for results in (images, texts))
    per_image, per_text = image / max(1, len(images)), text / max(1, len(texts))
    naive = 1000 * (8 * per_image + per_text)  # two grids of four quadrants each; the query's features ride with them
    return {
        "stored_in_all": image + text,
        "naive": round(naive),
        "per_image": round(per_image),
        "per_text": round(per_text),
    }


def _tensor_bytes(results: Results) -> int:
    return sum(table["tensors"].nbytes for table in results.tables(columns=["tensors"]))


def row_job(cfg: Encode, function: str, worker: Any, arguments: tuple[Any, ...], identity: tuple[Any, ...]) -> RowJob:
    """All functions of this stage. An image that cannot be encoded was damaged since the filter: none may fail."""
    schema = {"images": ENCODED_IMAGE, "texts": ENCODED_TEXT, "grids": ENCODED_GRID}[function]
    return RowJob("encode", function, worker, arguments, (VERSION, *identity), schema, cfg.pool, max_error_rate=0.0)


def manifest(cfg: Encode, known: Mapping[str, str], rows: int) -> Manifest:
    """What training and the checkpoint have to know about the encoded data."""
    recipe = cfg.model_dump(
        mode="json", include={"base", "quadrant", "encoder", "query_mode", "grid_analogies", "views"}
    )
    recipe |= {"base_revision": known["base"], "encoder_revision": known["encoder"]}
    recipe["catalogue_sha256"] = read_manifest(ANALOGIES)["params"]["catalogue_sha256"]
    inputs = {"pairs": fingerprint(PAIRS), "analogies": fingerprint(ANALOGIES)}
    return Manifest(rows, inputs, recipe, {"encode": VERSION})


if __name__ == "__main__":
    main()
