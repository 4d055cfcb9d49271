"""Rows a | a' | b | outputs | truth: what the report shows, and PNG sheets for the README."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LABELS: Final[dict[str, str]] = {
    "a": "a",
    "a2": "a'",
    "b": "b",
    "lorweb": "ours",
    "lorweb_shuffled": "ours, other task's exemplar",
    "lorweb_identity": "ours, a' = a",
    "lorweb_prompt": "ours, instruction",
    "lorweb_no_prompt": "ours, no prompt",
    "single_lora": "single LoRA",
    "single_lora_shuffled": "single LoRA, other task's exemplar",
    "single_lora_prompt": "single LoRA, instruction",
    "single_lora_no_prompt": "single LoRA, no prompt",
    "single_lora_equal": "single LoRA, as many parameters",
    "single_lora_equal_shuffled": "single LoRA, as many parameters, other task's exemplar",
    "basis_constant": "basis without a router",
    "basis_constant_shuffled": "basis without a router, other task's exemplar",
    "official": "published checkpoint",
    "official_shuffled": "published checkpoint, other task's exemplar",
    "base": "base",
    "base_prompt": "base, instruction",
    "base_no_prompt": "base, no prompt",
    "copy": "copy of b",
    "codec_copy": "copy of b, through the codec",
    "codec_truth": "truth, through the codec",
    "truth": "truth b'",
}
GIVEN: Final = ("a", "a2", "b")
UNDRAWN: Final = ("copy", "codec_copy", "codec_truth")  # models that draw nothing
GAP: Final = 4  # px between images of a sheet
LINE: Final = 15  # px of a line of the header
LETTER: Final = 6.5  # px of a letter of it, about
CAPTION: Final = 14  # px under each row


@dataclass(frozen=True)
class PictureRow:
    """One analogy to look at: images by column name (PNG bytes), and its numbers."""

    task: str
    instruction: str
    cell: str
    images: Mapping[str, bytes]
    scores: Mapping[str, float] = field(default_factory=dict)  # model -> the headline metric

    @property
    def columns(self) -> list[str]:
        """What there is, in order: what is given, the models in the order of LABELS, unknown ones, the truth."""
        known = [name for name in LABELS if name not in (*GIVEN, "truth")]
        models = [*known, *sorted(set(self.images) - set(LABELS))]
        return [name for name in (*GIVEN, *models, "truth") if name in self.images]


def pictured(model: str) -> bool:
    """Whether the report shows what a model answered: all that is drawn; of the exemplar tests our shuffled one."""
    tested = model.endswith(("_shuffled", "_identity")) and model != "lorweb_shuffled"
    return model not in UNDRAWN and not tested


def png_bytes(image: Image.Image) -> bytes:
    """An image as PNG; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def sheet(rows: Sequence[PictureRow], side: int) -> Image.Image:
    """Rows under a header, each image `side` px wide and high, each row with its task below.

    Raises:
        ValueError: there is no row.
    """
    if not rows:
        raise ValueError("a sheet needs at least one row of pictures; evaluate at least one analogy")
    columns = PictureRow("", "", "", {name: b"" for row in rows for name in row.images}).columns
    pitch = side + GAP
    labels = [textwrap.wrap(LABELS.get(name, name), max(8, int(side / LETTER))) for name in columns]
    header = LINE * max(map(len, labels)) + GAP
    canvas = Image.new("RGB", (GAP + len(columns) * pitch, header + len(rows) * (pitch + CAPTION)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=12)
    for x, lines in enumerate(labels):
        centre = GAP + x * pitch + side / 2
        for number, line in enumerate(lines):
            draw.text((centre, (number + 0.6) * LINE), line, fill="black", font=font, anchor="mm")
    for y, row in enumerate(rows):
        top = header + y * (pitch + CAPTION)
        for x, name in enumerate(columns):
            if name in row.images:
                canvas.paste(_open(row.images[name], side), (GAP + x * pitch, top))
        draw.text((GAP, top + side + 1), f"{row.task} ({row.cell})", fill="#555555", font=font)
    return canvas


def heat_image(values_RC: NDArray[np.float64], cell: int) -> tuple[Image.Image, float, float]:
    """A matrix as an image, `cell` px per entry, dark to light; and the values of both ends of the ramp."""
    pixels = ramp(values_RC)
    return (
        Image.fromarray(pixels.repeat(cell, axis=0).repeat(cell, axis=1)),
        float(values_RC.min()),
        float(values_RC.max()),
    )


def ramp(values_RC: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colours [R, C, 3] from dark (the least value) to light (the largest); all dark where they are equal."""
    low, high = float(values_RC.min()), float(values_RC.max())
    scaled = (values_RC - low) / (high - low) if high > low else np.zeros_like(values_RC)
    stops = np.array([[24, 20, 60], [60, 70, 140], [50, 140, 140], [120, 195, 100], [250, 230, 60]], dtype=np.float64)
    channels = [np.interp(scaled, np.linspace(0, 1, len(stops)), stops[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _open(png: bytes, side: int) -> Image.Image:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return image if image.size == (side, side) else image.resize((side, side), Image.Resampling.LANCZOS)
