"""Options that several commands share, and what the shell completes in them. Light: every `--help` loads it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from lorweb.commands import ALIASES, URI

_MODEL_FOLDERS: Final = 40  # more would not be read


class Offload(StrEnum):
    """Where the base rests: `lorweb.kontext.place.Offload`."""

    none = "none"
    model = "model"
    sequential = "sequential"


class LoraStyle(StrEnum):
    """Key styles of a baked LoRA: `lorweb.basis.lora_file.LoraFormat`."""

    diffusers = "diffusers"
    comfyui = "comfyui"


class Dtype(StrEnum):
    """Dtypes of a file that is written: `lorweb.basis.lora_file.DTYPES`."""

    float16 = "float16"
    bfloat16 = "bfloat16"
    float32 = "float32"


class CheckpointFormat(StrEnum):
    """`lorweb.convert.Format`."""

    official = "official"
    lorweb = "lorweb"


def complete_model(incomplete: str) -> list[str]:
    """Aliases, model folders below the working folder, and URIs once `models:` is typed.

    A registry is not asked: it takes seconds. bash parts words at `:` and `@`, so that names without them come first.
    """
    if incomplete.startswith("models:"):
        return [f"{URI}{alias}" for alias in ALIASES]
    found = [*Path().glob("*/basis.safetensors"), *Path().glob("*/*/basis.safetensors")]
    folders = sorted(path.parent.as_posix() for path in found)[:_MODEL_FOLDERS]
    return [name for name in (*ALIASES, *folders) if name.startswith(incomplete)]


def complete_profile(incomplete: str) -> list[str]:
    """Names of the files below profiles/."""
    return sorted(path.stem for path in Path("profiles").glob("*.yaml") if path.stem.startswith(incomplete))


MODEL_HELP: Final = "A model folder, its safetensors file, champion, candidate or previous, or an MLflow URI."
Model = Annotated[str, typer.Option(help=MODEL_HELP, autocompletion=complete_model)]
Profile = Annotated[
    str | None,
    typer.Option(help="A name below profiles/; by default params.yaml as it is.", autocompletion=complete_profile),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout in the place of text.")]
A = Annotated[Path, typer.Argument(help="Exemplar before the edit.")]
A2 = Annotated[Path, typer.Argument(help="Exemplar after the edit.")]
