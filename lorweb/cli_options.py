"""Options that several commands share, and what the shell completes in them. Light: every `--help` loads it."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from lorweb.commands import ALIASES, URI
from lorweb.kontext.limits import GUIDANCE, SEED, STEPS, STRENGTH, check_number, check_whole
from lorweb.serving.address import check_model_name
from lorweb.terminal import check_characters

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


def limited(name: str, limits: tuple[int, int] | tuple[float, float]) -> Callable[[Any], Any]:
    """A callback of an option for some `lorweb.kontext.limits`: outside of them it is wrong usage, with both bounds."""

    def check(value: Any) -> Any:
        try:
            if value is not None:
                low, high = limits
                if isinstance(low, int) and isinstance(high, int):
                    check_whole(value, name, (low, high))
                else:
                    check_number(value, name, (low, high))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        return value

    return check


def checked(refuse: Callable[[str], None]) -> Callable[[str | None], str | None]:
    """A callback of an option for text: where `refuse` raises ValueError it is wrong usage, with that sentence."""

    def check(value: str | None) -> str | None:
        try:
            if value is not None:
                refuse(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        return value

    return check


def _reason(text: str) -> None:
    if not text.strip():
        raise ValueError("the reason is blank; say why in a few words, they stay in the history")
    check_characters(text, "the reason")


_PROMPT: Final = checked(lambda text: check_characters(text, "the prompt"))
_WHO: Final = checked(lambda text: check_characters(text, "the name of who does it"))
Prompt = Annotated[str, typer.Option(callback=_PROMPT, help="Instruction besides the exemplar.")]
Name = Annotated[str, typer.Option(callback=checked(check_model_name), help="Name of the registered model.")]
Reason = Annotated[str, typer.Option(callback=checked(_reason), help="Why; it stays in the history.")]
MaybeReason = Annotated[
    str | None, typer.Option("--reason", callback=checked(_reason), help="Why; it stays in the history.")
]
By = Annotated[str | None, typer.Option(callback=_WHO, help="Who does it; by default the user of this machine.")]
Steps = Annotated[
    int | None,
    typer.Option(
        callback=limited("number of steps", STEPS), help="Denoising steps, 1 to 1000; the model's own by default."
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        callback=limited("guidance scale", GUIDANCE), help="Guidance scale, 0 to 100; the model's own by default."
    ),
]
Seed = Annotated[int, typer.Option(callback=limited("seed", SEED), help="Seed of the noise, 0 or above.")]
Strength = Annotated[
    float,
    typer.Option(
        callback=limited("strength", STRENGTH),
        help="1 is the analogy, 0 the base model, below 0 undoes the edit; -10 to 10.",
    ),
]
