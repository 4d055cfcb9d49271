"""The health of a basis as one picture: a heat map of layers x atoms, and beside each layer what its update is like.

Layers are grouped by what they are (`attn.to_q` of all double blocks, then `attn.to_k`, ...), depth going down. Atom i
of one layer has nothing to do with atom i of another, so each row is sorted by use: a row that is dark to its right end
uses all of its atoms. Drawn by PIL alone; equal health gives equal pixels.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lorweb.basis.health import Health, LayerHealth

RAMP: Final = ((244, 247, 251), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))  # darker = more used
DEAD: Final = (213, 94, 0)  # vermilion and black are told from blue with every kind of colour vision
DOUBLE: Final = (0, 0, 0)
INK: Final = (20, 20, 20)
FAINT: Final = (120, 120, 120)
TRACK: Final = (238, 238, 238)
FLOOR: Final = 0.05  # use, in even shares, at the light end of the ramp
LABEL, BAR, GAP, LINE = 176, 84, 14, 16  # px: layer names, one bar column, space between columns, line of text
TOP, BOTTOM = 92, 78  # px: title and column heads, legend


@dataclass(frozen=True)
class Group:
    """Layers of one kind, in order of depth."""

    block: str  # "transformer_blocks", or "" for layers outside of blocks
    part: str  # "attn.to_q"
    layers: tuple[tuple[int, str], ...]  # (depth, layer name)


@dataclass(frozen=True)
class Column:
    """Bars beside the heat map: one number per layer, from 0 to `top`."""

    head: str
    values: dict[str, float]
    top: float


@dataclass(frozen=True)
class Grid:
    """Pixels of the heat map."""

    cell: int  # width of an atom
    row: int  # height of a layer
    atoms: int

    @property
    def right(self) -> int:
        """x where the last column ends, px."""
        return LABEL + self.cell * self.atoms

    def height(self, group: Group) -> int:
        """A kind with a single layer still needs a line for its name."""
        return max(self.row * len(group.layers), LINE - 2)


def groups_of(names: Sequence[str]) -> list[Group]:
    """Layer names by block and part, in order of appearance; the first number in a name is the depth."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in names:
        match = re.fullmatch(r"(.*?)\.?(\d+)\.(.+)", name)
        block, depth, part = match.groups() if match else ("", "0", name)
        found.setdefault((block, part), []).append((int(depth), name))
    order = list(dict.fromkeys(block for block, _ in found))
    kinds = sorted(found, key=lambda kind: order.index(kind[0]))  # stable: parts keep their order
    return [Group(*kind, tuple(sorted(found[kind]))) for kind in kinds]


def colour(use: float, atoms: int) -> tuple[int, int, int]:
    """Colour of a use given in even shares (1 = a fair part): logarithmic from `FLOOR` to `atoms`, which is all of it.

    The scale depends on the number of atoms alone, so that pictures of two checkpoints can be laid side by side.
    """
    at = math.log(max(use, FLOOR) / FLOOR) / math.log(atoms / FLOOR)
    stops = np.linspace(0, 1, len(RAMP))
    red, green, blue = (round(float(np.interp(at, stops, [stop[c] for stop in RAMP]))) for c in range(3))
    return red, green, blue


def health_picture(health: Health) -> Image.Image:
    """Heat map of the use of every atom, marks on dead and duplicate ones, and four bars for each layer. RGB."""
    groups, atoms = groups_of(list(health.layers)), health.atoms // len(health.layers)
    grid = Grid(max(2, min(24, 480 // atoms)), max(3, min(14, 1400 // len(health.layers))), atoms)
    columns = _columns(health, atoms)
    blocks = len({group.block for group in groups})
    height = TOP + sum(grid.height(group) + 4 for group in groups) + blocks * (LINE + 4) + BOTTOM
    canvas = Image.new("RGB", (max(grid.right + len(columns) * (BAR + GAP) + 2 * GAP, 760), height), "white")
    draw = ImageDraw.Draw(canvas)
    draw.font = ImageFont.load_default(size=12)
    _heads(draw, health, grid, columns)
    y, block = TOP, None
    for group in groups:
        if group.block != block:
            block = group.block
            draw.text((GAP, y + LINE), block or "other layers", fill=INK, anchor="ls")
            y += LINE + 4
        _draw_group(draw, health, grid, columns, (group, y))
        y += grid.height(group) + 4
    _legend(draw, grid, y + GAP)
    return canvas


def _columns(health: Health, atoms: int) -> list[Column]:
    def column(head: str, key: str, top: float | None) -> Column:
        values = {name: float(getattr(row, key)) for name, row in health.layers.items()}
        return Column(head, values, top or max(values.values()) or 1.0)

    per_query = {name: atoms**row.entropy for name, row in health.layers.items()}
    return [
        Column("atoms\nper query", per_query, float(atoms)),
        column("moves with\nthe query", "update_variation", 1.0),
        column("rank of\nthe update", "update_rank", None),
        column("norm of\nthe update", "update_norm", None),
    ]


def _heads(draw: ImageDraw.ImageDraw, health: Health, grid: Grid, columns: Sequence[Column]) -> None:
    title = f"{health.atoms} atoms in {len(health.layers)} layers, {health.queries} queries"
    counts = f"{health.dead_atoms} dead atoms, {health.duplicate_pairs} duplicate pairs"
    draw.text((GAP, 20), f"{title}: {counts}", fill=INK, anchor="ls")
    draw.text((LABEL, TOP - 8), "use of each atom, most used first", fill=INK, anchor="ls")
    for index, column in enumerate(columns):
        left = grid.right + GAP + index * (BAR + GAP)
        draw.multiline_text((left, TOP - 54), column.head, fill=INK, spacing=2)
        draw.text((left, TOP - 8), "0", fill=FAINT, anchor="ls")
        draw.text((left + BAR, TOP - 8), f"{column.top:.3g}", fill=FAINT, anchor="rs")


def _draw_group(
    draw: ImageDraw.ImageDraw, health: Health, grid: Grid, columns: Sequence[Column], at: tuple[Group, int]
) -> None:
    group, top = at
    height = grid.height(group)
    draw.text((LABEL - 30, top + height / 2), group.part, fill=INK, anchor="rm")
    if grid.row * len(group.layers) >= 2 * LINE:
        draw.text((LABEL - 6, top), str(group.layers[0][0]), fill=FAINT, anchor="rt")
        draw.text((LABEL - 6, top + height), str(group.layers[-1][0]), fill=FAINT, anchor="rb")
    for index, (_, name) in enumerate(group.layers):
        y = top + index * grid.row
        _draw_row(draw, health.layers[name], grid, y)
        for place, column in enumerate(columns):
            left = grid.right + GAP + place * (BAR + GAP)
            bottom = y + grid.row - (2 if grid.row > 3 else 1)
            draw.rectangle((left, y, left + BAR, bottom), fill=TRACK)
            draw.rectangle((left, y, left + round(BAR * column.values[name] / column.top), bottom), fill=RAMP[3])


def _draw_row(draw: ImageDraw.ImageDraw, row: LayerHealth, grid: Grid, y: int) -> None:
    doubled = {atom for pair in row.duplicates for atom in pair}
    middle, thick = y + grid.row // 2, grid.row // 6
    for place, atom in enumerate(sorted(range(grid.atoms), key=lambda n: -row.use[n])):
        x = LABEL + place * grid.cell
        dead = atom in row.dead
        fill = (255, 255, 255) if dead else colour(row.use[atom] * grid.atoms, grid.atoms)
        draw.rectangle((x, y, x + grid.cell - 1, y + grid.row - 1), fill=fill)
        if dead:
            inset = 1 if grid.cell > 3 else 0
            draw.rectangle((x + inset, middle - thick, x + grid.cell - 1 - inset, middle + thick), fill=DEAD)
        if atom in doubled:
            draw.rectangle((x, y, x + max(1, grid.cell // 5), y + grid.row - 1), fill=DOUBLE)


def _legend(draw: ImageDraw.ImageDraw, grid: Grid, y: int) -> None:
    """The ramp with its ends and the even share, and what the marks mean."""
    width = 200
    for x in range(width):
        use = FLOOR * (grid.atoms / FLOOR) ** (x / (width - 1))
        draw.line((LABEL + x, y, LABEL + x, y + 10), fill=colour(use, grid.atoms))
    even = LABEL + round((width - 1) * math.log(1 / FLOOR) / math.log(grid.atoms / FLOOR))
    draw.text((LABEL - 6, y + 5), "use, in even shares", fill=INK, anchor="rm")
    draw.text((LABEL, y + 14), f"{FLOOR:g}", fill=FAINT, anchor="lt")
    draw.text((even, y + 14), "1 = even", fill=FAINT, anchor="mt")
    if grid.atoms > 4:
        draw.text((LABEL + width + 2, y + 5), f"{grid.atoms} = all", fill=FAINT, anchor="lm")
    left = LABEL + width + 90
    draw.rectangle((left, y + 4, left + 14, y + 6), fill=DEAD)
    draw.text((left + 20, y + 5), "dead", fill=INK, anchor="lm")
    draw.rectangle((left + 62, y, left + 65, y + 10), fill=DOUBLE)
    draw.text((left + 71, y + 5), "has a duplicate", fill=INK, anchor="lm")
    draw.text(
        (GAP, y + 46), "A group is one kind of layer in all blocks, the first block on top.", fill=FAINT, anchor="ls"
    )
