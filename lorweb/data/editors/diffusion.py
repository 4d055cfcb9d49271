"""What editors by diffusion share: where their models lie, LoRAs, prompts, and images that keep their proportions."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from PIL import Image

from lorweb.data.editors.base import EditRequest
from lorweb.data.editors.entries import DiffusionEntry, LoraEntry
from lorweb.data.manifest import file_sha256
from lorweb.data.rejects import Rejected
from lorweb.hub import first_line
from lorweb.kontext.files import base_revision, check_safetensors
from lorweb.kontext.grid import Size, fit_image, quadrant_like, restore
from lorweb.storage.fetched import fetched

VERSION: Final = 1  # raise it when the same parameters would give other pixels
MULTIPLE: Final = 16  # px
_PACKAGES: Final = ("diffusers", "peft", "pillow", "torch", "transformers")
_SPEED_ONLY: Final = {"tasks", "pool", "model", "loras", "offload"}


def settings_of(cfg: DiffusionEntry, folder: Path) -> list[object]:
    """Everything that decides the pixels of an editor: weights, numbers, packages.

    Raises:
        FileNotFoundError: a LoRA file is missing, or the folder has no weights.
        ValueError: a LoRA is no safetensors file, or a damaged one.
    """
    loras = [(file_sha256(lora_file(lora)), lora.weight) for lora in cfg.loras]
    packages = [f"{name}=={version(name)}" for name in _PACKAGES]
    numbers = sorted(cfg.model_dump(mode="json", exclude=_SPEED_ONLY).items())
    return [VERSION, base_revision(folder), *numbers, *loras, *packages]


def lora_file(lora: LoraEntry) -> Path:
    """The file of a LoRA. Raises FileNotFoundError or ValueError with what to do."""
    if Path(lora.path).suffix != ".safetensors":
        raise ValueError(f"the LoRA '{lora.path}' is not a .safetensors file; give the path of one")
    path = fetched(lora.path)
    if not path.is_file():
        raise FileNotFoundError(f"no LoRA at {path}; fetch the file and give its path")
    check_safetensors(path)
    return path


def add_loras(pipeline: Any, loras: Sequence[LoraEntry]) -> None:
    """Load all LoRAs of an entry with their weights. Raises ValueError for one that does not fit the model."""
    names = [f"lora{number}" for number in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        path = lora_file(lora)
        try:
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=name)
        except (ValueError, RuntimeError, KeyError, AttributeError, ImportError) as error:
            kind = type(pipeline).__name__
            raise ValueError(f"the LoRA {path} does not fit a {kind}: {first_line(error)}") from error
        if name not in pipeline.get_list_adapters().get(_denoiser(pipeline), []):
            raise ValueError(f"the LoRA {path} has no layer of a {type(pipeline).__name__}; it is for another model")
    if loras:
        pipeline.set_adapters(names, [lora.weight for lora in loras])


def _denoiser(pipeline: Any) -> str:
    return "transformer" if getattr(pipeline, "transformer", None) is not None else "unet"


def device_of(cfg: DiffusionEntry) -> str:
    """Where the models run: CUDA if the pool was given GPUs and there are any.

    Raises:
        ValueError: `offload` on a CPU.
    """
    import torch

    device = "cuda" if cfg.pool.gpus > 0 and torch.cuda.is_available() else "cpu"
    if cfg.offload != "none" and device == "cpu":
        raise ValueError(
            f"offload '{cfg.offload}' keeps weights in main memory until a GPU needs them, but this editor runs on the "
            "CPU; use offload 'none', or give its pool gpus"
        )
    return device


def settle(pipeline: Any, cfg: DiffusionEntry, device: str) -> None:
    """Bring a pipeline that was loaded into main memory into place."""
    if cfg.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif cfg.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)


def prompt_of(cfg: DiffusionEntry, request: EditRequest) -> str:
    """What the model is told."""
    said = cfg.prompt.replace("{instruction}", request.instruction).replace("{caption}", request.source.caption)
    return " ".join(said.split())


def edited(
    batch: Sequence[EditRequest], side: int, edit: Callable[[Image.Image, EditRequest], Image.Image]
) -> list[Image.Image | Rejected]:
    """`edit` on every source, one after another: a batch's shapes must not decide an image's last bits.

    The source is fitted to about `side` x `side` px in its own proportions, padded by less than 16 px, and goes back.
    """
    return [_edited(request, side, edit) for request in batch]


def _edited(
    request: EditRequest, side: int, edit: Callable[[Image.Image, EditRequest], Image.Image]
) -> Image.Image | Rejected:
    try:
        image = request.image()
        fitted, where = fit_image(image, quadrant_like(Size.of(image), side, MULTIPLE), "pad")
        return restore(edit(fitted, request), where)
    except Rejected as why:
        return why
