"""What the `lorweb` commands do, without the command line: files in, files out."""

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from lorweb.kontext.pipeline import AnalogyPipeline
    from lorweb.kontext.place import Offload

CHAMPION: Final = "models:/lorweb@champion"
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class ApplySettings:
    """Options of `lorweb apply`; None takes the model's own value."""

    prompt: str = ""
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    strength: float = 1.0
    mixes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Written:
    """One query of a folder: where its b' went, or why it has none."""

    source: Path
    output: Path | None
    fault: str | None


def model_file(model: str) -> Path:
    """The basis file behind `--model`: a folder, a safetensors file, or an MLflow URI.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no registry, no such model, alias or version.
    """
    if model.startswith("models:/"):
        from lorweb.serving.artifacts import resolve

        return resolve(model) / "basis.safetensors"
    path = Path(model)
    file = path / "basis.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"no model at {model}; give a folder with basis.safetensors, such a file, or {CHAMPION}"
        )
    return file


def check_weights_file(out: Path) -> None:
    """Refuse an output that is no safetensors file, before anything is computed. Raises ValueError."""
    if out.suffix != ".safetensors" or out.is_dir():
        raise ValueError(f"the output {out} must be a .safetensors file; give one as -o NAME.safetensors")


def load(model: str, offload: str = "none") -> "tuple[AnalogyPipeline, Path]":
    """(pipeline, its basis file) behind `--model`. Raises as `model_file` and `AnalogyPipeline.from_pretrained` do."""
    basis = model_file(model)
    from lorweb.kontext.pipeline import AnalogyPipeline

    return AnalogyPipeline.from_pretrained(basis, offload=cast("Offload", offload)), basis  # refused there if unknown


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


def apply(
    pipe: "AnalogyPipeline", basis: Path, exemplar: tuple[Path, Path], plan: dict[Path, Path], settings: ApplySettings
) -> Iterator[Written]:
    """Write b' for each query as soon as its batch is done. A single query that cannot be read is an error; of several,
    it is reported and the others go on.

    Raises:
        FileNotFoundError, ValueError: an image or a coefficient file cannot be used.
    """
    from lorweb.basis.mixes import mix_hash
    from lorweb.data.manifest import file_sha256
    from lorweb.kontext.denoise import Sampling
    from lorweb.kontext.request import Request

    a, a2 = (read_image(path) for path in exemplar)
    given = _mix(settings.mixes, basis)
    sampling = Sampling(settings.steps or pipe.steps, pipe.guidance if settings.guidance is None else settings.guidance)
    request = Request(sampling, settings.prompt, settings.seed, settings.strength, given)
    read: list[Path] = []
    faults: list[Written] = []
    facts = {
        **asdict(settings),
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "basis_sha256": file_sha256(basis),
    }
    queries = _readable(list(plan), read, faults)
    if len(plan) > 1:  # the bar of images is enough
        pipe.set_progress_bar_config(disable=True)
    for index, answer in enumerate(pipe.stream(a, a2, queries, request)):
        source = read[index]
        _save(answer.image, plan[source], {**facts, "mix": None if answer.mix_LN is None else mix_hash(answer.mix_LN)})
        yield Written(source, plan[source], None)
    yield from faults


def _readable(paths: list[Path], read: list[Path], faults: list[Written]) -> Iterator["Image.Image"]:
    """Images one by one; `read` lists those that were given out, `faults` the others."""
    for path in paths:
        try:
            image = read_image(path)
        except (ValueError, OSError) as error:
            if len(paths) == 1:
                raise
            faults.append(Written(path, None, str(error)))
            continue
        read.append(path)
        yield image


def _mix(texts: list[str], basis: Path) -> "Tensor | None":
    if not texts:
        return None
    from lorweb.basis.mix_files import combine, parse_terms

    return combine(parse_terms(texts), basis).mix_LN


def _save(image: "Image.Image", path: Path, facts: dict[str, Any]) -> None:
    """PNG with a text chunk `lorweb` that says how to make it again; written beside its place and renamed."""
    from PIL.PngImagePlugin import PngInfo

    from lorweb.basis.files import write_bytes

    info, png = PngInfo(), io.BytesIO()
    info.add_text("lorweb", json.dumps(facts, sort_keys=True))
    image.save(png, "PNG", pnginfo=info)
    write_bytes(path, png.getvalue())
