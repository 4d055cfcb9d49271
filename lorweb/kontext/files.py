"""The files of a base folder: is everything there and whole, and which base is it."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

from lorweb.data.manifest import file_sha256

PARTS: Final = ("transformer", "vae", "text_encoder", "text_encoder_2")
CONFIG_PARTS: Final = ("scheduler", "tokenizer", "tokenizer_2")
DECIDING: Final = (".safetensors", ".json", ".txt", ".model")  # weights, configurations, vocabularies


def check_base_folder(folder: Path) -> None:
    """Look at the folder's index, its parts and the header of every weights file, before anything is loaded.

    Raises:
        FileNotFoundError: a part, or a weights shard that an index names, is missing.
        ValueError: the index is of another pipeline, or a weights file is truncated.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(
            f"{folder} has no model_index.json; give a folder that FluxKontextPipeline.save_pretrained wrote"
        )
    kind = _read_json(index).get("_class_name")
    if kind != "FluxKontextPipeline":
        raise ValueError(f"{folder} holds a {kind}, not a FluxKontextPipeline; give a FLUX.1-Kontext base")
    for part in (*PARTS, *CONFIG_PARTS):
        if not (folder / part).is_dir() or not any((folder / part).iterdir()):
            raise FileNotFoundError(f"{folder} has no files in {part}/; fetch or copy the base again")
    for part in PARTS:
        _check_weights(folder / part)


def _check_weights(part: Path) -> None:
    files = sorted(part.glob("*.safetensors"))
    for index in sorted(part.glob("*.safetensors.index.json")):
        missing = sorted({name for name in _read_json(index)["weight_map"].values() if not (part / name).is_file()})
        if missing:
            raise FileNotFoundError(f"{part} lacks {missing[0]} ({len(missing)} missing); fetch or copy the base again")
    if not files:
        raise FileNotFoundError(
            f"{part} has no .safetensors file (other formats are not read); fetch or copy the base again"
        )
    for file in files:
        check_safetensors(file)


def check_safetensors(path: Path) -> None:
    """Read the header of a weights file, which also states the file's length. Raises ValueError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or truncated ({error}); fetch or copy it again") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch or copy it again") from error
    return content


def base_revision(folder: Path) -> str:
    """First 16 hex digits of a sha256 over names and contents of all deciding files: same bytes, same revision.

    In the hub's cache a weights file is a link to a blob that is named by its sha256; that name is taken, so that tens
    of gigabytes are not read again. It is the same number as the file's own hash.
    """
    digest = hashlib.sha256()
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix in DECIDING and not _hidden(f, folder))
    if not files:
        raise FileNotFoundError(f"{folder} has no weights; give a base folder")
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()}\x1f{_content_hash(file)}\n".encode())
    return digest.hexdigest()[:16]


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _content_hash(file: Path) -> str:
    blob = file.resolve()
    if file.is_symlink() and blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    return file_sha256(file)
