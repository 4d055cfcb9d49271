"""Any diffusers pipeline that takes an image and a prompt, as an editor."""

import difflib
import inspect
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lorweb.data.editors.base import EditorFacts, EditRequest, SeedBy
from lorweb.data.editors.diffusion import add_loras, device_of, edited, prompt_of, settings_of, settle
from lorweb.data.editors.entries import DiffusersConfig
from lorweb.data.rejects import Rejected
from lorweb.hub import first_line, is_hub_id
from lorweb.records import stable_id
from lorweb.storage.fetched import fetched


class DiffusersEditor:
    """A stock pipeline on one image at a time."""

    name = "diffusers"
    seed_by: SeedBy = "pair"

    def __init__(self, cfg: DiffusersConfig) -> None:
        """Load the pipeline and its LoRAs.

        Raises:
            FileNotFoundError: no such folder, or no weights in it.
            ValueError: it does not load, takes no image, or lacks an argument that is given.
        """
        self.cfg = cfg
        device = device_of(cfg)
        self.pipeline = _load(cfg, resolve_pipeline(cfg.model))
        self.fixed, self.sized = _arguments(cfg, self.pipeline)
        self.pipeline.set_progress_bar_config(disable=True)
        add_loras(self.pipeline, cfg.loras)
        settle(self.pipeline, cfg, device)

    @cached_property
    def revision(self) -> str:
        """Of weights, numbers and packages."""
        return describe_diffusers(self.cfg).revision

    def __call__(self, batch: Sequence[EditRequest]) -> list[Image.Image | Rejected]:
        """The edited sources, in their own sizes (check `refused_by_model`: the pipeline's own safety checker)."""
        return edited(batch, self.cfg.side, self._edit)

    def _edit(self, image: Image.Image, request: EditRequest) -> Image.Image:
        sized = {
            "height": image.height,
            "width": image.width,
            "max_area": image.height * image.width,  # Kontext's: it would choose a size of its own
            "_auto_resize": False,
            "mask_image": Image.new("L", image.size, 255),
        }
        said = self.pipeline(
            prompt=prompt_of(self.cfg, request),
            image=image,
            generator=torch.Generator().manual_seed(request.seed),
            **self.fixed,
            **{name: value for name, value in sized.items() if name in self.sized},
        )
        if any(getattr(said, "nsfw_content_detected", None) or ()):
            raise Rejected("refused_by_model", "the pipeline's own safety checker refused the image")
        after: Image.Image = said.images[0].convert("RGB")
        if after.size != image.size:
            got = f"{after.width} x {after.height} for {image.width} x {image.height} pixels"
            raise Rejected("bad_answer", f"{type(self.pipeline).__name__} gave {got}; set `side` to a size it keeps")
        return after


def describe_diffusers(cfg: DiffusersConfig) -> EditorFacts:
    """Known without loading; reads the weights once. Raises FileNotFoundError or ValueError."""
    return EditorFacts("diffusers", stable_id(*settings_of(cfg, resolve_pipeline(cfg.model))), DiffusersEditor.seed_by)


def resolve_pipeline(name: str) -> Path:
    """The folder behind a name; a hub id is fetched into the hub's cache. Raises FileNotFoundError or ValueError."""
    folder = fetched(name)
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise FileNotFoundError(f"{folder} has no model_index.json; give a folder that save_pretrained wrote")
        return folder
    if not is_hub_id(name):
        raise FileNotFoundError(f"no pipeline at '{name}'; give a diffusers folder, or a hub id such as owner/name")
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(name, use_safetensors=True))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"'{name}' is no folder here and could not be fetched from the hub ({first_line(error)}); give the "
            "folder of a copy, or log in with `hf auth login`"
        ) from error


def _load(cfg: DiffusersConfig, folder: Path) -> Any:
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, DiffusionPipeline
    from safetensors import SafetensorError

    kinds = {
        "image_to_image": AutoPipelineForImage2Image,
        "inpaint": AutoPipelineForInpainting,
        "own": DiffusionPipeline,
    }
    try:
        return kinds[cfg.pipeline].from_pretrained(
            str(folder), dtype=getattr(torch, cfg.dtype), local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, TypeError, RuntimeError, AttributeError, SafetensorError) as error:
        raise ValueError(
            f"{folder} does not load as pipeline '{cfg.pipeline}': {first_line(error)}. Try another of image_to_image, "
            "inpaint, own; the folder must hold .safetensors weights, as save_pretrained writes them"
        ) from error


def _arguments(cfg: DiffusersConfig, pipeline: Any) -> tuple[dict[str, Any], set[str]]:
    """What every call is given, and which of the other arguments this pipeline's call has."""
    kind, known = type(pipeline).__name__, set(inspect.signature(type(pipeline).__call__).parameters) - {"self"}
    if not {"prompt", "image"} <= known:
        raise ValueError(f"a {kind} takes no prompt and image, so that it cannot edit; give a pipeline that does")
    given: dict[str, Any] = {**cfg.arguments}
    if cfg.strength is not None:
        given["strength"] = cfg.strength
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
            raise ValueError(f"a {kind} has no argument '{name}'; did you mean '{near}'? Otherwise drop it (null)")
    if "strength" in known and "strength" not in given:
        raise ValueError(f"a {kind} needs strength, but it is null; give a number above 0 and at most 1")
    numbers = {"num_inference_steps": cfg.num_inference_steps, "guidance_scale": cfg.guidance_scale}
    return {**numbers, **given}, known
