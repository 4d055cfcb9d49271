"""Icon sets in the icons.json format of npm packages: fetched once with `npm pack` into a cache folder, then drawn."""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from PIL import Image

from lorweb.data.avatars import rasterise
from lorweb.data.rejects import Rejected
from lorweb.storage.fetched import fetched

SETS: Final = {  # drawing -> package and version, file in the cache, licence
    "flat": ("@iconify-json/fluent-emoji-flat@1.2.6", "fluent-flat.json", "MIT"),
    "glossy": ("@iconify-json/fluent-emoji@1.2.7", "fluent-glossy.json", "MIT"),
    "noto": ("@iconify-json/noto@1.2.9", "noto.json", "Apache-2.0"),
}
_MEMBER: Final = "package/icons.json"
_LARGEST: Final = 200 * 2**20  # bytes of icons.json; the glossy one has about 60 MB
_SECONDS: Final = 300
_SIDE: Final = 16  # the format's own default width and height


def icon_file(drawing: str, cache: str, asker: str) -> Path:
    """The icons.json of a set, fetched if the cache lacks it. `asker` is what messages call the entry that wants it.

    Raises:
        ValueError: npm is missing, or the package cannot be had.
    """
    package, name, _ = SETS[drawing]
    path = fetched(cache) / name
    if not path.is_file():
        _fetch(package, path, asker)
    return path


def icon_names(path: Path) -> list[str]:
    """Names of all icons of a set, sorted; aliases that are the same drawing included. Raises ValueError."""
    content = _content(str(path))
    return sorted({*content["icons"], *(n for n in content.get("aliases", {}) if _parent(content, n))})


def draw_icon(path: Path, name: str, size: int) -> Image.Image:
    """One icon on white, RGB, `size` x `size` px. Raises `Rejected` (check `unreadable`)."""
    content = _content(str(path))
    try:
        icon = content["icons"][name if name in content["icons"] else _parent(content, name)]
        width = icon.get("width", content.get("width", _SIDE))
        height = icon.get("height", content.get("height", _SIDE))
        side = max(width, height)  # flags and the like are not square: centred, never stretched
        left, top = icon.get("left", 0) - (side - width) / 2, icon.get("top", 0) - (side - height) / 2
        box = f"viewBox='{left} {top} {side} {side}'"
        glyph = rasterise(f"<svg xmlns='http://www.w3.org/2000/svg' {box}>{icon['body']}</svg>", size).convert("RGBA")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Rejected("unreadable", f"emoji '{name}' of {path.name} cannot be drawn: {error}") from error
    return Image.alpha_composite(Image.new("RGBA", glyph.size, "white"), glyph).convert("RGB")


def _parent(content: dict[str, Any], name: str) -> str:
    """The icon behind an alias, "" for one that turns or mirrors it or leads nowhere."""
    alias = content.get("aliases", {}).get(name)
    plain = isinstance(alias, dict) and set(alias) == {"parent"} and alias["parent"] in content["icons"]
    return str(alias["parent"]) if plain else ""


@lru_cache(maxsize=3)
def _content(path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); delete it, and it is fetched again") from error
    if not isinstance(content, dict) or not isinstance(content.get("icons"), dict):
        raise ValueError(f"{path} has no object 'icons'; delete it, and it is fetched again")
    return content


def _fetch(package: str, path: Path, asker: str) -> None:
    """npm package -> one file in the cache; only that member is read, nothing is unpacked."""
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(f"{asker} needs npm, which is not on this machine; install npm or remove the entry")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [npm, "pack", package, "--silent"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip()[-300:]
            raise ValueError(f"npm could not fetch {package}: {said}; check the network or remove {asker}") from error
        data = _member(next(Path(folder).glob("*.tgz")))
        part = Path(folder) / "icons.json"
        part.write_bytes(data)
        os.replace(part, path)  # noqa: PTH105 - same file system: atomic


def _member(archive: Path) -> bytes:
    with tarfile.open(archive) as tar:
        member = tar.getmember(_MEMBER)
        file = tar.extractfile(member) if member.isfile() and member.size <= _LARGEST else None
        if file is None:
            raise ValueError(f"{archive.name} holds no plain {_MEMBER} of at most {_LARGEST} bytes; fetch it again")
        return file.read()
