"""Fits the fixed reduction of the packaged encoder: `python -m lorweb.basis.fit_encoder`. Deterministic.

It sees packaged photos, avatars of seeds that no data set uses, and what the *training* tasks make of both: no held-out
task, and no label. The reduction is a PCA of standardised features, scaled by variance^(-1/4): whitening halfway lifts
the small directions in which edits differ without raising noise to the size of signal.

Legend: N images, F features before the reduction, D features of the encoder.
"""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from lorweb.basis.efficientnet import Array
from lorweb.basis.encoders import REDUCTION, RawFeatures
from lorweb.data.avatars import BASE
from lorweb.data.catalogue import load_catalogue
from lorweb.data.editors import EmbeddedEditor
from lorweb.data.readers import Reader, build_reader
from lorweb.data.readers.base import SourceRow
from lorweb.data.readers.dicebear import DicebearConfig
from lorweb.data.readers.photos import PhotosConfig
from lorweb.data.rejects import Rejected
from lorweb.records import stable_id

DIM: Final = 160
WHITENING: Final = 0.5  # 0 keeps the variances of the PCA, 1 makes them equal
SIZE: Final = 128  # px
CROPS: Final = 4  # per photo
SEEDS: Final = 6  # avatars per style
FIRST_SEED: Final = 100_000  # far above the seeds of any data set
EDITS: Final = 12  # training tasks drawn per source
BATCH: Final = 16  # images
_Doubles = NDArray[np.float64]


def main() -> None:
    """Fit on `fit_images` and write the file that `load_encoder` reads."""
    encoder, images = RawFeatures(), fit_images()
    parts = []
    while batch := list(itertools.islice(images, BATCH)):
        parts.append(encoder(batch))
    raw_NF = np.concatenate(parts)
    save_reduction(fit_reduction(raw_NF, DIM), REDUCTION)
    print(f"{REDUCTION.name}: {raw_NF.shape[1]} features to {DIM}, fitted to {len(raw_NF)} images")


def fit_images() -> Iterator[Image.Image]:
    """Each source, then what `EDITS` training tasks, drawn by the id of the source, make of it."""
    tasks, editor = [task for task in load_catalogue().tasks if task.trained], EmbeddedEditor()
    for source in _sources():
        yield Image.open(io.BytesIO(source["image"]))
        fitting = [task for task in tasks if task.fits_category(source["category"])]
        generator = np.random.default_rng(int(stable_id("fit", source["id"]), 16))
        for index in sorted(generator.choice(len(fitting), EDITS, replace=False)):
            try:
                yield editor.edit(fitting[index], dict(source), 0)
            except Rejected:
                continue  # an edit that does not fit this subject shows nothing to fit to


def _sources() -> Iterator[SourceRow]:
    readers: list[Reader] = [
        build_reader(PhotosConfig(reader="photos", crops=CROPS)),
        build_reader(DicebearConfig(reader="dicebear", styles=tuple(BASE), seeds=SEEDS, first_seed=FIRST_SEED)),
    ]
    for reader in readers:
        for location in reader.locations():
            try:
                yield reader.read(location, SIZE, SIZE * SIZE * 10_000)
            except Rejected:
                continue  # a crop too coarse for this size


def fit_reduction(raw_NF: Array, dim: int) -> dict[str, Tensor]:
    """shift [F], scale [F] (float32) and matrix [F, dim] (float16): features are ((raw - shift) * scale) @ matrix.

    Over the images of the fit the features have mean 0, mean square 1 over all coordinates, and falling variances.

    Raises:
        ValueError: fewer images than `dim`.
    """
    count, width = raw_NF.shape
    if not 0 < dim < min(count, width):
        raise ValueError(f"cannot fit {dim} dimensions to {count} images of {width} features; give more images")
    x_NF = raw_NF.astype(np.float64)
    shift_F, spread_F = x_NF.mean(axis=0), x_NF.std(axis=0)
    scale_F = 1.0 / np.maximum(spread_F, 1e-3 * np.median(spread_F))  # a dead feature stays small
    z_NF = (x_NF - shift_F) * scale_F
    variances_F, vectors_FF = np.linalg.eigh(z_NF.T @ z_NF / count)
    variances_D, vectors_FD = variances_F[::-1][:dim], vectors_FF[:, ::-1][:, :dim]
    matrix_FD = _signed(vectors_FD) * variances_D ** (-WHITENING / 2)
    matrix_FD /= np.sqrt(np.mean(variances_D ** (1.0 - WHITENING)))
    return {
        "shift": torch.from_numpy(shift_F).float(),
        "scale": torch.from_numpy(scale_F).float(),
        "matrix": torch.from_numpy(np.ascontiguousarray(matrix_FD)).half(),
    }


def _signed(vectors_FD: _Doubles) -> _Doubles:
    """Eigenvectors with their largest entry positive: their sign is otherwise the machine's choice."""
    largest_D = np.abs(vectors_FD).argmax(axis=0)
    signed: _Doubles = vectors_FD * np.sign(vectors_FD[largest_D, np.arange(vectors_FD.shape[1])])
    return signed


def save_reduction(tensors: dict[str, Tensor], path: Path) -> None:
    """Write atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.chmod(0o644)  # safetensors writes for its owner alone
    temporary.replace(path)


if __name__ == "__main__":
    main()
