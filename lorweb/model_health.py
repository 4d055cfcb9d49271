"""The health of a model folder: its basis, asked with the held-out analogies of the pipeline or with images of yours.

The base is not loaded: coefficients need the encoder's features, atoms need nothing.

Legend: B queries, Q query width.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from lorweb.basis.health import Health
    from lorweb.kontext.metadata import ModelMetadata


def measure(basis: Path, data: Path, triples: Path | None) -> "Health":
    """Health of a basis file on the test analogies below `data`, or on a folder of `triples` if one is given.

    Raises:
        FileNotFoundError: no metadata.json beside the basis, or nothing to ask it with.
        ValueError: queries of another encoder or mode, a basis with internal queries, or a damaged file.
    """
    from lorweb.basis import router_of
    from lorweb.basis.bare import load_bare
    from lorweb.basis.health import health
    from lorweb.kontext.metadata import read_metadata

    metadata, bare = read_metadata(basis.parent), load_bare(basis)
    config = router_of(bare).config
    if config.internal:
        raise ValueError(
            f"{basis} has internal queries: its coefficients change with layer, step and noise, so that no set of "
            "queries can stand for them; give a basis with external queries"
        )
    read = queries_of_data if triples is None else queries_of_triples
    return health(bare, read(data if triples is None else triples, metadata, config.query_mode))


def queries_of_data(data: Path, metadata: "ModelMetadata", mode: str) -> "Tensor":
    """Queries [B, Q] of all test analogies: `data`/analogies names them, `data`/encoded holds their features.

    Raises:
        FileNotFoundError: the pipeline has not run there.
        ValueError: encoded by another encoder or for another mode, or encoded before the analogies were made.
    """
    import torch

    from lorweb.data.shards import read_table
    from lorweb.evaluation.fitting import check_fits
    from lorweb.records import ANALOGY
    from lorweb.training.dataset import Encoded

    for folder in (data / "encoded", data / "analogies"):
        if not folder.is_dir():
            raise FileNotFoundError(f"no {folder}; run the pipeline up to encode, or give images with --triples FOLDER")
    encoded = Encoded.load(data / "encoded")
    asks = {"query_mode": mode, **_encoder(metadata)}
    check_fits("the basis", asks, str(data / "encoded"), encoded.manifest["params"])
    rows = [row for row in read_table(data / "analogies", ANALOGY).to_pylist() if row["split"] == "test"]
    absent = sorted({row[side] for row in rows for side in ("exemplar", "query")} - set(encoded.pairs))
    if absent or not rows:
        what = (
            f"{len(absent)} pairs of the analogies are not encoded, first {absent[0]}" if absent else "no test analogy"
        )
        raise ValueError(f"{data}: {what}; run the stages assemble and encode again")
    images = [(*encoded.pairs[row["exemplar"]], encoded.pairs[row["query"]][0]) for row in rows]
    return encoded.queries(torch.tensor(images))


def queries_of_triples(folder: Path, metadata: "ModelMetadata", mode: str) -> "Tensor":
    """Queries [B, Q] of the sub-folders of `folder`, each with three images called a, a2 and b.

    Raises:
        FileNotFoundError: no sub-folder, or an image is missing.
        ValueError: an image cannot be read, or the encoder is not the one of the training.
    """
    import torch

    from lorweb.basis.encoders import load_encoder
    from lorweb.commands import read_image
    from lorweb.evaluation.fitting import misfits
    from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar
    from lorweb.kontext.grid import Size
    from lorweb.kontext.query import query_of

    places = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not places:
        raise FileNotFoundError(f"no sub-folder in {folder}; give a folder of folders, each with images a, a2 and b")
    found = [[_image(place, name) for name in ("a", "a2", "b")] for place in places]
    encoder = load_encoder(metadata.encoder)
    if misfits(_encoder(metadata), {"encoder_revision": encoder.revision}):
        raise ValueError(
            f"the basis was trained with encoder {metadata.encoder} ({metadata.encoder_revision}), but that is now "
            f"{encoder.revision}; give the encoder of its training"
        )
    rule = CanvasRule(Size(metadata.quadrant, metadata.quadrant))
    rows = []
    for paths in found:
        a, a2, b = (read_image(path) for path in paths)
        rows.append(query_of(encoder, mode, Canvas.of(Exemplar.of(a, a2, rule), [b], rule)))
    return torch.cat(rows)


def _image(place: Path, name: str) -> Path:
    from lorweb.commands import SUFFIXES

    for suffix in SUFFIXES:
        if (place / f"{name}{suffix}").is_file():
            return place / f"{name}{suffix}"
    raise FileNotFoundError(f"no image {name} in {place}; it needs a, a2 and b, each ending in {', '.join(SUFFIXES)}")


def _encoder(metadata: "ModelMetadata") -> dict[str, str]:
    """{} where nobody knows it."""
    return {"encoder_revision": metadata.encoder_revision} if metadata.encoder_revision else {}
