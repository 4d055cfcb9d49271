"""Health on disk: the numbers as JSON and the picture beside them."""

import io
from pathlib import Path

from lorweb.basis.files import write_bytes, write_text
from lorweb.basis.health import Health
from lorweb.basis.health_picture import health_picture


def write_health(found: Health, folder: Path) -> tuple[Path, Path]:
    """`health.json` and `health.png` in the folder, made if need be; equal health gives equal bytes.

    Raises:
        OSError: the folder cannot be written; no part of a file is left.
    """
    numbers, picture, png = folder / "health.json", folder / "health.png", io.BytesIO()
    health_picture(found).save(png, format="PNG")
    write_text(numbers, found.to_json() + "\n")
    write_bytes(picture, png.getvalue())
    return numbers, picture
