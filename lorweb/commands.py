"""Files and models that the `lorweb` commands are given: found, read, and refused with a sentence."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from lorweb.serving.address import SCHEME

if TYPE_CHECKING:
    from PIL import Image

    from lorweb.kontext.pipeline import AnalogyPipeline
    from lorweb.kontext.place import Offload

URI: Final = f"{SCHEME}lorweb@"
ALIASES: Final = ("champion", "candidate", "previous")
CHAMPION: Final = f"{URI}champion"
SUFFIXES: Final = (  # of the formats that are read, `lorweb.data.decode.FORMATS`
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
    ".ico",
)  # fmt: skip


def model_name(model: str) -> str:
    """`--model` in full: an alias alone is that alias of `lorweb`, unless something of that name lies here."""
    return f"{URI}{model}" if model in ALIASES and not Path(model).exists() else model


def fixed_model(model: str) -> str:
    """`--model` in full, an alias as the version that it stands on now: it may move while a command runs.

    Raises:
        ValueError: no registry, no such model, alias or version.
    """
    model = model_name(model)
    if not model.startswith(SCHEME):
        return model
    from lorweb.serving.artifacts import fixed

    return fixed(model)


def model_file(model: str) -> Path:
    """The basis file behind `--model`: a folder, a safetensors file, an alias, or an MLflow URI.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no registry, no such model, alias or version.
    """
    model = model_name(model)
    if model.startswith(SCHEME):
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


def load(model: str, offload: str = "none") -> "tuple[AnalogyPipeline, Path]":
    """(pipeline, its basis file) behind `--model`. Raises as `model_file` and `AnalogyPipeline.from_pretrained` do."""
    basis = model_file(model)
    from lorweb.kontext.quiet import quiet

    with quiet():
        from lorweb.kontext.pipeline import AnalogyPipeline

        pipe = AnalogyPipeline.from_pretrained(basis, offload=cast("Offload", offload))  # refused there if unknown
    return pipe, basis


def read_image(path: Path) -> "Image.Image":
    """An RGB image from a file of a plain raster format: some of Pillow's others start helper programs.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image, truncated, or too large.
    """
    from PIL import Image

    from lorweb.data.decode import FORMATS
    from lorweb.kontext.images import UNDECODABLE, as_rgb

    if not path.is_file():
        raise FileNotFoundError(f"no image at {path}")
    try:
        image = Image.open(path, formats=FORMATS)
    except (Image.DecompressionBombError, *UNDECODABLE) as error:
        raise ValueError(f"{path} is not an image that can be read ({error}); give a PNG, JPEG or WebP file") from error
    with image:
        return as_rgb(image, str(path))
