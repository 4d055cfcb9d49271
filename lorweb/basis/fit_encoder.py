"""Fits the fixed reduction of the packaged encoder: `python -m lorweb.basis.fit_encoder`. Deterministic.

It sees what the *training* tasks make of photos and avatars that are never tested on, and which task each change is
of: no held-out task, no test subject. The reduction is a discriminant analysis of changes: the directions in which
f(a') - f(a) differs most between tasks, measured against how much it differs within a task and how much images differ
anyway. What a router has to tell apart then stands out, whatever the subject.

Legend: M pairs, F features before the reduction, D features of the encoder, K tasks.
"""

from dataclasses import dataclass
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
from lorweb.tiny.corpus import CorpusSpec, edited_pairs, shrink

DIM: Final = 106  # at most the number of training tasks less one
SUBJECTS: Final = 1.0  # weight of the covariance of images beside that of changes within a task
RIDGE: Final = 0.1  # share of the mean variance added to every direction
PARTS: Final = 4  # of the corpus that pre-training uses too
PAIRS: Final = 10  # of each task and part
SIDE: Final = 64  # px, the quadrant of the embedded default
BATCH: Final = 16  # images
_Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class EditedFeatures:
    """Features of both sides of every pair, [M, F], and the task of each, [M]."""

    before_MF: Array
    after_MF: Array
    task_M: NDArray[np.int64]


def main() -> None:
    """Fit and write the file that `load_encoder` reads."""
    found = edited_features(RawFeatures())
    tensors = fit_reduction(found, DIM)
    save_reduction(tensors, REDUCTION)
    print(f"{REDUCTION.name}: {found.after_MF.shape[1]} features to {DIM}, fitted to {len(found.task_M)} pairs")


def edited_features(encoder: RawFeatures) -> EditedFeatures:
    """Features of edited pairs; an image that is edited several times is encoded once."""
    spec = CorpusSpec(PARTS, PAIRS, SIDE)
    rows: dict[bytes, int] = {}
    places: list[tuple[int, int, int]] = []  # rows of before and after, task
    features: list[Array] = []
    waiting: list[Image.Image] = []

    def place(image: Image.Image) -> int:
        small = shrink(image, SIDE)
        if (key := small.tobytes()) not in rows:
            rows[key] = len(rows)
            waiting.append(Image.fromarray(small))
        return rows[key]

    for part in range(PARTS):
        for task, (before, after) in edited_pairs(part, spec):
            places.append((place(before), place(after), task))
            if len(waiting) >= BATCH:
                features.append(encoder(waiting))
                waiting.clear()
    if waiting:
        features.append(encoder(waiting))
    all_NF, table = np.concatenate(features), np.array(places)
    return EditedFeatures(all_NF[table[:, 0]], all_NF[table[:, 1]], table[:, 2])


def fit_reduction(found: EditedFeatures, dim: int) -> dict[str, Tensor]:
    """shift [F], scale [F] (float32) and matrix [F, dim] (float16): features are ((raw - shift) * scale) @ matrix.

    Over the images of the fit the features have mean 0 and mean square 1 over all coordinates; the first coordinates
    separate the tasks best.

    Raises:
        ValueError: not more than `dim` tasks.
    """
    from scipy.linalg import eigh

    tasks = np.unique(found.task_M)
    if not 0 < dim < len(tasks):
        raise ValueError(f"{len(tasks)} tasks have at most {len(tasks) - 1} discriminant directions, not {dim}")
    x_NF = np.concatenate([found.before_MF, found.after_MF]).astype(np.float64)
    shift_F, spread_F = x_NF.mean(axis=0), x_NF.std(axis=0)
    scale_F = 1.0 / np.maximum(spread_F, 1e-3 * np.median(spread_F))  # a dead feature stays small
    z_NF = (x_NF - shift_F) * scale_F
    before_MF, after_MF = np.split(z_NF, 2)
    between_FF, within_FF = _scatter(after_MF - before_MF, found.task_M, tasks)
    noise_FF = within_FF + SUBJECTS * np.cov(z_NF.T)
    noise_FF += RIDGE * np.trace(noise_FF) / len(noise_FF) * np.eye(len(noise_FF))
    last = len(noise_FF) - 1
    _, vectors_FD = eigh(between_FF, noise_FF, subset_by_index=[last - dim + 1, last])
    matrix_FD = _signed(vectors_FD[:, ::-1])
    matrix_FD /= np.sqrt(np.mean(np.square(z_NF @ matrix_FD)))
    return {
        "shift": torch.from_numpy(shift_F).float(),
        "scale": torch.from_numpy(scale_F).float(),
        "matrix": torch.from_numpy(np.ascontiguousarray(matrix_FD)).half(),
    }


def _scatter(change_MF: _Doubles, task_M: NDArray[np.int64], tasks_K: NDArray[np.int64]) -> tuple[_Doubles, _Doubles]:
    """Covariance of the tasks' mean changes, and of changes around them, [F, F] each."""
    means_KF = np.stack([change_MF[task_M == task].mean(axis=0) for task in tasks_K])
    residual_MF = change_MF - means_KF[np.searchsorted(tasks_K, task_M)]
    centred_KF = means_KF - means_KF.mean(axis=0)
    between: _Doubles = centred_KF.T @ centred_KF / len(tasks_K)
    within: _Doubles = residual_MF.T @ residual_MF / (len(change_MF) - len(tasks_K))
    return between, within


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
