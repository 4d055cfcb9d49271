"""Model folders of scorers: found, looked at before they are loaded, and one sentence for every fault."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from PIL import Image

from lorweb.data.scorers.base import Array
from lorweb.hub import first_line, is_hub_id
from lorweb.kontext.files import check_safetensors
from lorweb.storage.fetched import fetched

T = TypeVar("T")
_FETCHED: Final = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def model_at(scorer: str, model: str) -> Path:
    """The folder of a model: a local one, or a hub id's in the hub's cache, fetched there if need be.

    Raises:
        FileNotFoundError: no folder, no config.json, or no safetensors weights in it.
        ValueError: the hub does not give it, or a weights file is damaged.
    """
    folder = fetched(model)
    if not folder.exists() and is_hub_id(model):
        folder = _from_hub(scorer, model)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"scorer '{scorer}': no config.json in '{model}'; give the folder of a transformers model, or a hub id"
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise FileNotFoundError(
            f"scorer '{scorer}': '{model}' has no .safetensors file (other formats are not read); fetch another copy"
        )
    for file in weights:
        check_safetensors(file)
    return folder


def _from_hub(scorer: str, name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_FETCHED))
    except (OSError, ValueError) as error:  # what the hub client raises for every refusal
        raise ValueError(
            f"scorer '{scorer}': '{name}' is no folder here and could not be fetched from the hub "
            f"({first_line(error)}); give the folder of a copy"
        ) from error


def weights_file(scorer: str, path: str, what: str) -> Path:
    """A safetensors file that parameters name; `what` is what it should hold.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, or damaged.
    """
    file = fetched(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"scorer '{scorer}': no file '{path}'; give a .safetensors file with {what} (docs/data_scorers.md says how "
            "to make it), or leave it out"
        )
    if file.suffix != ".safetensors":
        raise ValueError(
            f"scorer '{scorer}': '{path}' is no .safetensors file, and other formats are not read; convert it "
            "(docs/data_scorers.md)"
        )
    check_safetensors(file)
    return file


def loaded(scorer: str, folder: Path, what: str, load: Callable[[], T]) -> T:
    """`load()`, with what libraries raise for a folder that holds something else turned into a ValueError."""
    from safetensors import SafetensorError

    try:
        return load()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError, SafetensorError) as e:
        raise ValueError(
            f"scorer '{scorer}': {folder} does not load as {what}: {first_line(e)}; give the folder of such a model"
        ) from e


def pretrained(kind: Any, folder: Path, dtype: str = "float32") -> Any:
    """A model class filled from a folder's safetensors, on the CPU. Raises ValueError where the folder lacks weights:
    transformers would draw them at random.
    """
    import torch

    model, info = kind.from_pretrained(
        str(folder),
        dtype=getattr(torch, dtype),
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(f"it has no weights '{missing[0]}' ({len(missing)} are missing)")
    return model.eval().requires_grad_(False)


def device_for(gpus: float) -> str:
    """Where a worker with so many GPUs runs its network."""
    import torch

    return "cuda" if gpus > 0 and torch.cuda.is_available() else "cpu"


def in_turn(encoder: Callable[[list[Image.Image]], Any], images: Sequence[Image.Image], device: str) -> Array:
    """Features [I, D] of images. On a CPU one after another: as fast, and no number depends on its neighbours."""
    step = 1 if device == "cpu" else max(1, len(images))
    parts = [encoder(list(images[i : i + step])).float().cpu().numpy() for i in range(0, len(images), step)]
    return np.asarray(np.concatenate(parts), dtype=np.float32)
