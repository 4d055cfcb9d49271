"""Latents, text embeddings and encoder features, each computed once -> data/encoded."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lorweb.basis.query import mode_of
from lorweb.config import Encode, load_params
from lorweb.data.decode import decode_rgb
from lorweb.data.manifest import Manifest, fingerprint, read_manifest, write_manifest
from lorweb.data.shards import RowReader, read_index, read_table, write_shards
from lorweb.records import ANALOGY, ENCODED_IMAGE, ENCODED_PAIR, ENCODED_TEXT, PAIR, TRAIN_PAIR, stable_id
from pipelines._rows import Execute, Item, Result, RowJob, run_rows
from pipelines._stage import count, publishing, stage

if TYPE_CHECKING:
    from lorweb.kontext.load import Base

VERSION: Final = 1
MAX_PIXELS: Final = 1 << 28  # these are our own images; the limit only stops a damaged header
OUT, PAIRS, ANALOGIES = Path("data/encoded"), Path("data/pairs"), Path("data/analogies")


class EncodeImages:
    """The worker: images -> latents of one quadrant and encoder features, float16.

    One image at a time: in a batch, rounding depends on who else is in it, and a resumed run batches differently.
    """

    def __init__(self, cfg: Encode, pairs: str) -> None:
        from lorweb.basis.encoders import load_encoder
        from lorweb.kontext.grid import Size

        self.size = Size(cfg.quadrant, cfg.quadrant)
        self.rows = RowReader(Path(pairs), PAIR, ["before", "after"])
        self.base = frozen_base(cfg)
        self.encoder, self.mode = load_encoder(cfg.encoder, str(self.base.device)), cfg.query_mode

    def __call__(self, items: list[Item]) -> list[Result]:
        return [{"image": item["id"], "tensors": self._encode(*item["at"])} for item in items]

    def _encode(self, place: list[int], side: str) -> bytes:
        import torch
        from safetensors.torch import save

        from lorweb.basis.query import encode
        from lorweb.kontext.codec import encode_image
        from lorweb.kontext.grid import fit_image

        image, _ = fit_image(decode_rgb(self.rows(place)[side], MAX_PIXELS), self.size, "crop")
        latents, features = encode_image(self.base, [image])[0], encode(self.encoder, self.mode, [image])[0]
        both = {"latents": latents, "features": features}
        return save({name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in both.items()})


class EncodeTexts:
    """The worker: instructions -> prompt embeddings [T, E] and pooled vector [P], float16; one at a time, as above."""

    def __init__(self, cfg: Encode) -> None:
        self.base = frozen_base(cfg)

    def __call__(self, items: list[Item]) -> list[Result]:
        return [{"instruction": item["text"], "tensors": self._encode(item["text"])} for item in items]

    def _encode(self, text: str) -> bytes:
        import torch
        from safetensors.torch import save

        found = self.base.text([text])
        both = {"prompt_embeds": found.prompt_BTE[0], "pooled": found.pooled_BP[0]}
        return save({name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in both.items()})


def frozen_base(cfg: Encode) -> "Base":
    """The base on the device the pool was given: bfloat16 on a GPU, float32 on a CPU."""
    import torch

    from lorweb.kontext.load import load_base

    on_gpu = cfg.pool.gpus > 0 and torch.cuda.is_available()
    return load_base(cfg.base, torch.bfloat16 if on_gpu else torch.float32, "cuda" if on_gpu else "cpu")


def used_pairs() -> tuple[set[str], set[str]]:
    """(ids of the pairs, instructions) that training or evaluation will ask for; "" is the prompt that says nothing."""
    train = read_table(ANALOGIES / "train", TRAIN_PAIR, ["pair", "instruction"]).to_pylist()
    listed = read_table(ANALOGIES, ANALOGY, ["exemplar", "query", "instruction"]).to_pylist()
    pairs = {r["pair"] for r in train} | {r["exemplar"] for r in listed} | {r["query"] for r in listed}
    return pairs, {""} | {r["instruction"] for r in train} | {r["instruction"] for r in listed}


def distinct_images(pairs: set[str]) -> tuple[list[Item], list[dict[str, str]]]:
    """Items of the images to encode, each once by content, and the rows of `records.ENCODED_PAIR`."""
    images: dict[str, Item] = {}
    links = []
    for row in read_index(PAIRS, PAIR, ["id"], digests=["before", "after"]):
        if row["id"] in pairs:
            for side in ("before", "after"):
                name = row[f"{side}_sha256"]
                images.setdefault(name, {"id": name, "at": [row["at"], side]})
            links.append({"pair": row["id"], "before": row["before_sha256"], "after": row["after_sha256"]})
    return list(images.values()), links


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
        pairs, texts = used_pairs()
        images, links = distinct_images(pairs)
        known = revisions(cfg)
        where = str(PAIRS.resolve())
        seen = (known["base"], cfg.quadrant, known["encoder"], mode_of(cfg.query_mode).levels)
        image_job = row_job(cfg, "images", EncodeImages, (cfg, where), seen)
        text_job = row_job(cfg, "texts", EncodeTexts, (cfg,), (known["base"],))
        image_rows = run_rows(image_job, images, execute)
        text_rows = run_rows(text_job, [{"id": stable_id("text", t), "text": t} for t in sorted(texts)], execute)
        with publishing(OUT, "encode") as folder:
            rows = write_shards(image_rows.tables(), folder, ENCODED_IMAGE)
            write_shards(text_rows.tables(), folder / "text", ENCODED_TEXT)
            pq.write_table(pa.Table.from_pylist(links, ENCODED_PAIR), folder / "pairs.parquet")
            write_manifest(folder, manifest(cfg, known, rows))
        metrics.update(count(len(images), rows, []), texts=len(text_rows), pairs=len(links))


def row_job(cfg: Encode, function: str, worker: Any, arguments: tuple[Any, ...], identity: tuple[Any, ...]) -> RowJob:
    """Both functions of this stage. An image that cannot be encoded was damaged since the filter: none may fail."""
    schema = ENCODED_IMAGE if function == "images" else ENCODED_TEXT
    return RowJob("encode", function, worker, arguments, (VERSION, *identity), schema, cfg.pool, max_error_rate=0.0)


def manifest(cfg: Encode, known: Mapping[str, str], rows: int) -> Manifest:
    """What training and the checkpoint have to know about the encoded data."""
    recipe = cfg.model_dump(mode="json", include={"base", "quadrant", "encoder", "query_mode"})
    recipe |= {"base_revision": known["base"], "encoder_revision": known["encoder"]}
    recipe["catalogue_sha256"] = read_manifest(ANALOGIES)["params"]["catalogue_sha256"]
    inputs = {"pairs": fingerprint(PAIRS), "analogies": fingerprint(ANALOGIES)}
    return Manifest(rows, inputs, recipe, {"encode": VERSION})


if __name__ == "__main__":
    main()
