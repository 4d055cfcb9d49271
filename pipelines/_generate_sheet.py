"""Generate, last part: a picture sheet per editor (before | after | instruction), to look at before going on."""

import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont, ImageOps

from lorweb.data.shards import RowReader, read_index
from lorweb.records import PAIR, stable_id

FOLDER: Final = Path("reports/generate")
_ROWS: Final = 16  # pairs on a sheet
_COLUMNS: Final = 2  # pairs side by side
_SIDE: Final = 128  # px, of a shown image
_TEXT: Final = 208  # px, width of the words
_GAP: Final = 8  # px


def write_sheets(candidates: Path) -> list[str]:
    """One PNG per editor in reports/generate, of the same pairs for the same candidates; returns their names."""
    rows = read_index(candidates, PAIR, ["id", "task", "editor", "instruction"])
    reader = RowReader(candidates, PAIR, ["before", "after"])
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    names = []
    for editor in sorted({row["editor"] for row in rows}):
        shown = spread([row for row in rows if row["editor"] == editor], _ROWS)
        pairs = [{**row, **reader(row["at"])} for row in shown]
        names.append(f"{''.join(c if c.isalnum() or c in '-_' else '_' for c in editor)}.png")
        draw_sheet(pairs).save(FOLDER / names[-1])
    return names


def spread(rows: Sequence[Mapping[str, Any]], number: int) -> list[Mapping[str, Any]]:
    """Up to `number` rows, one of every task before a second of any; the choice depends on ids alone."""
    ranked = sorted(rows, key=lambda row: stable_id("sheet", row["id"]))
    turn: dict[str, int] = {}
    order = []
    for row in ranked:
        turn[row["task"]] = turn.get(row["task"], -1) + 1
        order.append((turn[row["task"]], stable_id("sheet", row["task"]), row))
    chosen = sorted(order, key=lambda entry: entry[:2])[:number]
    return sorted((row for _, _, row in chosen), key=lambda row: (row["task"], row["id"]))


def draw_sheet(pairs: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Pairs (`before`, `after` bytes; `task`, `instruction`) in rows, images in their own proportions."""
    width, height = 2 * (_SIDE + _GAP) + _TEXT, _SIDE + _GAP
    lines = -(-len(pairs) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * width + _GAP, lines * height + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for place, pair in enumerate(pairs):
        left, top = place // lines * width + _GAP, place % lines * height + _GAP
        for offset, side in ((0, "before"), (_SIDE + _GAP, "after")):
            image = Image.open(io.BytesIO(pair[side])).convert("RGB")
            image = ImageOps.contain(image, (_SIDE, _SIDE))
            sheet.paste(image, (left + offset, top))
        text_left = left + 2 * (_SIDE + _GAP)
        draw.text((text_left, top), pair["task"], fill="grey", font=font)
        draw.multiline_text((text_left, top + 20), wrapped(draw, pair["instruction"], font), fill="black", font=font)
    return sheet


def wrapped(draw: ImageDraw.ImageDraw, text: str, font: Any) -> str:
    """Text in lines that fit beside the images, at most five."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and draw.textlength(longer, font=font) > _TEXT - _GAP:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines[:5])
