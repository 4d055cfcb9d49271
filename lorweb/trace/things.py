"""What it is that a trace starts from."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lorweb.basis.mix_files import FORMAT
from lorweb.commands import ALIASES
from lorweb.kontext.metadata import BASIS_FILE
from lorweb.serving.address import SCHEME, Address

_VERSION: Final = re.compile(r"\d{1,9}")  # ids of records have 16 digits


@dataclass(frozen=True)
class Thing:
    """`kind`: image, mix, lora (made with a basis), model, or record. `facts`: what a file says of itself.

    `place`: path of a model folder, URI of a version, or id of a record.
    """

    kind: str
    place: str
    facts: dict[str, Any] = field(default_factory=dict)


def thing(asked: str, root: Path, name: str) -> Thing:
    """What `asked` names: a file or folder that is there, else a version, an alias, or an id.

    Raises:
        FileNotFoundError: it looks like a path and nothing is there.
        ValueError: a file that says nothing of itself.
    """
    path = root / asked
    if path.is_dir():
        return Thing("model", str(path))
    if path.is_file():
        return _of_file(path)
    if asked.startswith(SCHEME):
        return Thing("model", asked)
    if asked in ALIASES:
        return Thing("model", str(Address(name, asked)))
    if _VERSION.fullmatch(asked):
        return Thing("model", str(Address(name, number=int(asked))))
    if "/" in asked or Path(asked).suffix:
        raise FileNotFoundError(
            f"nothing at {asked}; give a PNG, a model, a mix, a LoRA, a version, or an id of a record"
        )
    return Thing("record", asked)


def _of_file(path: Path) -> Thing:
    from lorweb.basis.files import read_metadata
    from lorweb.provenance import read_facts

    if path.suffix.lower() == ".png":
        return Thing("image", str(path), read_facts(path))
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} says nothing of its origin; give a PNG that lorweb wrote, or a .safetensors file")
    metadata = read_metadata(path)
    if "lorweb_bake" in metadata:
        report = _object(metadata["lorweb_bake"], path)
        return Thing("lora", str(path), {key: value for key, value in report.items() if key != "errors"})
    header = _object(metadata.get("lorweb", "{}"), path)
    if header.get("format") == FORMAT:
        return Thing("mix", str(path), header)
    if not header:
        raise ValueError(f"{path} was not written by lorweb: its metadata say nothing of its origin")
    if path.name != BASIS_FILE:
        raise ValueError(f"{path} is a basis, and its facts lie beside a file called {BASIS_FILE}; give such a folder")
    return Thing("model", str(path.parent))


def _object(text: str, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: its metadata are no JSON ({error}); use another copy") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: its metadata are no JSON object; use another copy")
    return found
