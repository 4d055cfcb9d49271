"""Outputs that the `lorweb` commands are given: refused with a sentence, before anything is computed.

No file that is read is written over, and no file is added to a model: every weights and JSON file in its folder counts
for its content hash.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from lorweb.commands import SUFFIXES

_MODEL: Final = ("basis.safetensors", "metadata.json")  # see `lorweb.serving.artifacts.model_files`


def check_weights_file(out: Path) -> None:
    """Refuse an output that is no safetensors file, or that lies in the folder of a model. Raises ValueError."""
    if out.suffix != ".safetensors" or out.is_dir():
        raise ValueError(f"the output {out} must be a .safetensors file; give one as -o NAME.safetensors")
    check_no_model(out.parent)


def check_no_model(folder: Path) -> None:
    """Refuse to write weights or JSON into the folder of a model. Raises ValueError."""
    if all((folder / name).is_file() for name in _MODEL):
        raise ValueError(
            f"{folder} is the folder of a model, and a file more or another one in it would change the model's content "
            "hash; choose another output with -o"
        )


def check_picture_file(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that is no PNG, or that would be written over an image that is read. Raises ValueError."""
    if out.suffix.lower() != ".png" or out.is_dir():
        raise ValueError(f"the output {out} must be a .png file; how it was made is kept in its metadata")
    check_kept([out], inputs, "the image ")


def check_kept(outputs: Iterable[Path], inputs: Iterable[Path], kind: str = "") -> None:
    """Refuse an output that is one of the files that are read, by whatever name. Raises ValueError.

    `kind`: what the sentence calls such a file, with a space behind it.
    """
    read = {_identity(path): path for path in inputs}
    for out in outputs:
        if (same := read.get(_identity(out))) is not None:
            raise ValueError(f"{out} would be written over {kind}{same}, which is read; choose another output with -o")


def _identity(path: Path) -> object:
    """Equal for all names of one file: relative ones, and those through links of either kind."""
    try:
        found = path.stat()
    except OSError:  # nothing there yet
        return path.resolve()
    return found.st_dev, found.st_ino


def plan_outputs(queries: Path, out: Path, exemplar: Iterable[Path] = ()) -> dict[Path, Path]:
    """{image: output}; a folder of images goes into a folder of PNG files of the same names.

    Raises:
        FileNotFoundError: no image there.
        ValueError: outputs that are no PNG, that two images would share, or that are images which are read.
    """
    if not queries.is_dir():
        check_picture_file(out, [queries, *exemplar])
        return {queries: out}
    images = sorted(path for path in queries.iterdir() if path.suffix.lower() in SUFFIXES)
    if not images:
        raise FileNotFoundError(f"no image in {queries}; its files must end in {', '.join(SUFFIXES)}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{queries} is a folder, so the output must be one too, but {out} is a file")
    plan = {path: out / f"{path.stem}.png" for path in images}
    taken = sorted(output.name for output, count in Counter(plan.values()).items() if count > 1)
    if taken:
        raise ValueError(f"several images in {queries} would be written to {taken[0]}; rename them apart")
    check_kept(plan.values(), [*images, *exemplar], "the image ")
    return plan


def other_files(queries: Path) -> list[Path]:
    """The files of a folder that `plan_outputs` passes over for their suffix; hidden ones are nobody's pictures."""
    if not queries.is_dir():
        return []
    there = (path for path in queries.iterdir() if path.suffix.lower() not in SUFFIXES)
    return sorted(path for path in there if not path.name.startswith(".") and path.is_file())


def check_model_folder(out: Path, source: Path, names: Sequence[str]) -> None:
    """Refuse a folder for a model that holds another one, or a part of one. Raises ValueError.

    Args:
        source: the file or folder of the model that is read.
        names: files that will be written, the weights first. A model of just these names is written anew.
    """
    if not out.is_dir():
        return
    if out.samefile(source if source.is_dir() else source.parent):
        raise ValueError(f"the output {out} is the folder of the model that is read; give another folder")
    own = names if (out / names[0]).is_file() else ()
    there = {path.name for path in out.glob("*.safetensors")}
    there |= {name for name in (*_MODEL, *names) if (out / name).is_file()}
    others = sorted(there - set(own))
    if others:
        raise ValueError(
            f"the output {out} holds {others[0]} already, which would be mixed up with the files of this model; give a "
            "new or an empty folder"
        )
