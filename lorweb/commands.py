"""Files and models that the `lorweb` commands are given: found, read, and refused with a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from PIL import Image

    from lorweb.kontext.pipeline import AnalogyPipeline
    from lorweb.kontext.place import Offload

URI: Final = "models:/lorweb@"
ALIASES: Final = ("champion", "candidate", "previous")
CHAMPION: Final = f"{URI}champion"
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def model_name(model: str) -> str:
    """`--model` in full: an alias alone is that alias of `lorweb`, unless something of that name lies here."""
    return f"{URI}{model}" if model in ALIASES and not Path(model).exists() else model


def model_file(model: str) -> Path:
    """The basis file behind `--model`: a folder, a safetensors file, an alias, or an MLflow URI.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no registry, no such model, alias or version.
    """
    model = model_name(model)
    if model.startswith("models:/"):
        from lorweb.serving.artifacts import resolve

        return resolve(model) / "basis.safetensors"
    path = Path(model)
    file = path / "basis.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"no model at {model}; give a folder with basis.safetensors, such a file, {', '.join(ALIASES)}, or "
            f"{CHAMPION}"
        )
    return file


def check_weights_file(out: Path) -> None:
    """Refuse an output that is no safetensors file, before anything is computed. Raises ValueError."""
    if out.suffix != ".safetensors" or out.is_dir():
        raise ValueError(f"the output {out} must be a .safetensors file; give one as -o NAME.safetensors")


def load(model: str, offload: str = "none") -> "tuple[AnalogyPipeline, Path]":
    """(pipeline, its basis file) behind `--model`. Raises as `model_file` and `AnalogyPipeline.from_pretrained` do."""
    basis = model_file(model)
    with quiet_loading():
        from lorweb.kontext.pipeline import AnalogyPipeline

        pipe = AnalogyPipeline.from_pretrained(basis, offload=cast("Offload", offload))  # refused there if unknown
    return pipe, basis


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep libraries from drawing bars and from warning of each other while they load: stderr is for sentences.

    Afterwards they may warn again, of a prompt that is too long for instance.
    """
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    before = [library.get_verbosity() for library in (of_diffusers, of_transformers)]
    for library in (of_diffusers, of_transformers):
        library.disable_progress_bar()
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, level in zip((of_diffusers, of_transformers), before, strict=True):
            library.set_verbosity(level)


def read_image(path: Path) -> "Image.Image":
    """An RGB image from a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image, truncated, or too large.
    """
    from PIL import Image

    from lorweb.kontext.images import UNDECODABLE, as_rgb

    if not path.is_file():
        raise FileNotFoundError(f"no image at {path}")
    try:
        image = Image.open(path)
    except (Image.DecompressionBombError, *UNDECODABLE) as error:
        raise ValueError(f"{path} is not an image that can be read ({error}); give a PNG, JPEG or WebP file") from error
    with image:
        return as_rgb(image, str(path))


def plan_outputs(queries: Path, out: Path) -> dict[Path, Path]:
    """{image: output}; a folder of images goes into a folder of PNG files of the same names.

    Raises:
        FileNotFoundError: no image there.
        ValueError: outputs that are no PNG, or that two images would share.
    """
    if not queries.is_dir():
        if out.suffix.lower() != ".png" or out.is_dir():
            raise ValueError(f"the output {out} must be a .png file; how it was made is kept in its metadata")
        return {queries: out}
    images = sorted(path for path in queries.iterdir() if path.suffix.lower() in SUFFIXES)
    if not images:
        raise FileNotFoundError(f"no image in {queries}; its files must end in {', '.join(SUFFIXES)}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{queries} is a folder, so the output must be one too, but {out} is a file")
    plan = {path: out / f"{path.stem}.png" for path in images}
    taken = sorted({o.name for o in plan.values() if list(plan.values()).count(o) > 1})
    if taken:
        raise ValueError(f"several images in {queries} would be written to {taken[0]}; rename them apart")
    return plan
