"""The frozen base: a stock FluxKontextPipeline from the package ("tiny"), a folder or the hub, and what it asks for.

Legend: B batch, T text tokens, E text width, P pooled width.
"""

import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch

from lorweb.hub import first_line, is_hub_id
from lorweb.kontext.files import base_revision, check_base_folder
from lorweb.kontext.model import TextEmbedding
from lorweb.kontext.quiet import encode_prompt
from lorweb.storage.fetched import fetched

_TEXT: Final = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Defaults:
    """What a base was made for; FLUX.1-Kontext's values unless its folder has a `lorweb.json` that says otherwise."""

    max_sequence_length: int = 512  # T5 tokens
    guidance_scale: float = 2.5
    num_inference_steps: int = 28
    quadrant: int = 512  # px, side of one quadrant


@dataclass(frozen=True)
class Base:
    """A frozen base in evaluation mode, on one device."""

    name: str  # as given to `load_base`
    folder: Path
    pipeline: Any  # a stock FluxKontextPipeline
    defaults: Defaults

    @property
    def transformer(self) -> Any:
        """The stock FluxTransformer2DModel, bare or with a basis."""
        return self.pipeline.transformer

    @property
    def device(self) -> torch.device:
        """Where models run and their inputs go; with offload the weights rest elsewhere."""
        device: torch.device = self.pipeline._execution_device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of the transformer's weights; latents have it too."""
        dtype: torch.dtype = self.pipeline.transformer.dtype
        return dtype

    @property
    def latent_channels(self) -> int:
        """C, channels of one latent cell (16)."""
        return int(self.pipeline.latent_channels)

    @property
    def cell(self) -> int:
        """Pixels per latent cell (8)."""
        return int(self.pipeline.vae_scale_factor)

    @cached_property
    def revision(self) -> str:
        """Fingerprint of all files that decide what the base computes."""
        return base_revision(self.folder)

    @torch.no_grad()
    def text(self, prompts: list[str]) -> TextEmbedding:
        """Stock `encode_prompt`: prompt_BTE and pooled_BP on the base's device, in the dtype of the text encoders.

        A prompt that is longer than the text encoder reads is cut off there, with a `Note`.

        Raises:
            ValueError: there is no prompt, or the base was loaded without its text encoders.
        """
        if self.pipeline.text_encoder is None:
            raise ValueError("this base was loaded without its text encoders; load it with text=True to encode prompts")
        if not prompts:
            raise ValueError('no prompt to encode; give at least one, "" for none')
        most = self.defaults.max_sequence_length
        prompt_BTE, pooled_BP, _ = encode_prompt(self.pipeline, prompts, self.device, most)
        return TextEmbedding(prompt_BTE, pooled_BP)


def load_base(name: str, dtype: torch.dtype, device: str | torch.device, text: bool = True) -> Base:
    """Load a base; nothing of it will ever be trained.

    `name` is "tiny" (the packaged base), a diffusers folder, or a hub id (`black-forest-labs/FLUX.1-Kontext-dev`).
    Without `text` its text encoders stay on the disk: those of FLUX.1 are 9.8 GB in bfloat16.

    Raises:
        FileNotFoundError: no such folder, or a part of it is missing.
        ValueError: a part is damaged, is of another kind, or the hub refuses it; the sentence says what to do.
    """
    folder = resolve(name)
    check_base_folder(folder)
    pipeline = _read_pipeline(folder, dtype, text)
    for part in ("transformer", "vae", *(_TEXT if text else ())):
        getattr(pipeline, part).eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return Base(name, folder, pipeline.to(device), read_defaults(folder))


def resolve(name: str) -> Path:
    """The folder behind a base's name; a hub id is fetched into the hub's cache (`HF_HOME`) when it is not there yet.

    Raises:
        FileNotFoundError: neither "tiny", nor a folder, nor a hub id.
        ValueError: the hub does not give it.
    """
    if name == "tiny":
        packaged = Path(__file__).parent.parent / "tiny" / "kontext"
        if not (packaged / "model_index.json").is_file():
            raise FileNotFoundError(
                "the packaged base lorweb/tiny/kontext is missing; run `make pretrain`, or install lorweb again"
            )
        return packaged
    folder = fetched(name)
    if folder.is_dir():
        return folder
    if not is_hub_id(name):
        raise FileNotFoundError(
            f"no base at '{name}'; give 'tiny', a diffusers folder or its URI, or a hub id such as owner/name"
        )
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from diffusers import FluxKontextPipeline

    try:
        return Path(FluxKontextPipeline.download(name))
    except (OSError, ValueError) as error:  # what diffusers and the hub client raise for every refusal
        raise ValueError(
            f"'{name}' is no folder here and could not be fetched from the hub ({first_line(error)}). Accept its "
            "licence on its page and log in with `hf auth login` (or set HF_TOKEN), or give the folder of a copy"
        ) from error


def _read_pipeline(folder: Path, dtype: torch.dtype, text: bool) -> Any:
    from diffusers import FluxKontextPipeline
    from safetensors import SafetensorError

    parts: dict[str, Any] = {} if text else dict.fromkeys(_TEXT)
    if _is_patch_codec(folder / "vae"):
        parts["vae"] = _patch_codec(folder / "vae", dtype)
    try:
        return FluxKontextPipeline.from_pretrained(str(folder), dtype=dtype, local_files_only=True, **parts)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"the base in {folder} cannot be loaded: {first_line(error)}. Fetch or copy the folder again; it must be "
            "what FluxKontextPipeline.save_pretrained writes"
        ) from error


def _is_patch_codec(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("_class_name") == "PatchCodec"


def _patch_codec(folder: Path, dtype: torch.dtype) -> Any:
    from lorweb.tiny.codec import PatchCodec

    return PatchCodec.from_pretrained(str(folder)).to(dtype=dtype)


def read_defaults(folder: Path) -> Defaults:
    """`lorweb.json` of a base folder over FLUX.1-Kontext's values.

    Raises:
        ValueError: not a JSON object, or a key that is no default.
    """
    path = folder / "lorweb.json"
    if not path.is_file():
        return Defaults()
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); write it again or delete it") from error
    known = [field.name for field in fields(Defaults)]
    if not isinstance(given, dict) or set(given) - set(known):
        raise ValueError(f"{path} holds {given}; it must be an object with keys among {', '.join(known)}")
    for key, value in given.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int if key != "guidance_scale" else int | float)
            or value < 0
        ):
            raise ValueError(f"{path}: {key} is {value!r}; it must be a positive number, whole but for guidance_scale")
    return Defaults(**given)
