"""CLIP and SigLIP 2 through transformers: the encoders of the paper, from a local folder or the hub's cache.

Legend: B batch, P patches, D width of the embedding, F width of a token.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from lorweb.basis.query import ImageEncoder
from lorweb.hub import first_line, is_hub_id
from lorweb.storage.fetched import fetched

PREPROCESSING: Final = "1"  # goes up when the same weights would give other features


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
        """The tower's embedding [B, dim], float32, on the CPU, of B RGB images of any size; not normalised."""
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


def _filled(kind: Any, folder: Path) -> Any:
    """A model with all its weights from the folder: transformers would draw those that lack, and only warn."""
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(
            f"{folder} has no weights '{missing[0]}' ({len(missing)} are missing); give the folder of such a model"
        )
    return model


def _read_clip(name: str, folder: Path, device: str) -> ImageEncoder:
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    model = _filled(CLIPVisionModelWithProjection, folder)
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
    model = _filled(getattr(transformers, f"{prefix}VisionModel"), folder)
    processor = getattr(transformers, f"{prefix}ImageProcessorPil").from_pretrained(folder)
    return TransformersEncoder(name, model, processor, model.config.hidden_size, device)


READERS: Final[dict[str, Callable[[str, Path, str], ImageEncoder]]] = {"clip": _read_clip, "siglip2": _read_siglip2}


def model_folder(kind: str, folder: str) -> Path:
    """The local folder of a model: itself, or a hub id's in the hub's cache, fetched if need be.

    Raises:
        ValueError: no model there, or the hub does not give it.
    """
    path = fetched(folder)
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
