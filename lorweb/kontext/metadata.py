"""`metadata.json` beside `basis.safetensors`: what a trained basis needs around it to be applied.

Everything about the basis itself (N, r, d, query mode, targets) is inside the safetensors file.
"""

import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from lorweb.basis.files import write_text
from lorweb.config_errors import parsed_json, shortened, unknown_name
from lorweb.kontext.grid import LATENTS, Latents

METADATA_FILE: Final = "metadata.json"
BASIS_FILE: Final = "basis.safetensors"


@dataclass(frozen=True)
class ModelMetadata:
    """Fields without meaning to `AnalogyPipeline` (dataset hash, seed, ...) travel in `extra` and are kept."""

    base: str  # as `load_base` takes it
    base_revision: str  # `Base.revision` at training time; "" where nobody knows it, and then it is not checked
    encoder: str  # a row of the encoder table; "" for internal queries
    encoder_revision: str  # as for the base
    quadrant: int  # px, side of one quadrant in training
    num_inference_steps: int
    guidance_scale: float
    extra: dict[str, Any]
    latents: Latents = "quadrant"  # how training made latents of its grids; files without the key are of quadrants


def write_metadata(folder: Path, metadata: ModelMetadata) -> None:
    """Write `metadata.json` into a model folder, atomically, keys sorted."""
    write_text(
        folder / METADATA_FILE, json.dumps(asdict(metadata), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    )


def read_metadata(folder: Path) -> ModelMetadata:
    """The inverse of `write_metadata`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or a missing, unknown or mistyped key.
    """
    path = folder / METADATA_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {METADATA_FILE}; give a model folder as the train stage writes it")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}); train again or restore the file") from error
    return parse_metadata(text, str(path))


def parse_metadata(text: str, path: str) -> ModelMetadata:
    """As `read_metadata`, of text; `path` is what messages call it. Raises ValueError."""
    found = parsed_json(text, path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {shortened(found)}, not an object; train again or restore the file")
    names = [field.name for field in fields(ModelMetadata)]
    needed = {field.name for field in fields(ModelMetadata) if field.default is MISSING}
    for fault, keys in (("lacks", needed - set(found)), ("has the unknown key", set(found) - set(names))):
        if keys:
            raise ValueError(f"{path} {fault} '{min(keys)}'; its keys must be {', '.join(names)}")
    types: dict[str, Any] = {"quadrant": int, "num_inference_steps": int, "guidance_scale": (int, float), "extra": dict}
    for name in found:
        if not isinstance(found[name], types.get(name, str)) or isinstance(found[name], bool):
            raise ValueError(
                f"{path}: {name} is {shortened(found[name])}, which is of the wrong type; train again, or restore it"
            )
    if found.get("latents", "quadrant") not in LATENTS:
        raise ValueError(f"{path}: {unknown_name('latents', found['latents'], LATENTS)}")
    return ModelMetadata(**found)
