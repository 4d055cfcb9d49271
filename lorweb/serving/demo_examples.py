"""Analogies to try: held-out test analogies where the pipeline has run, and packaged photos with an edit elsewhere."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from lorweb.data.decode import decode_rgb

MAX_PIXELS: Final = 40_000_000
# (task of the packaged catalogue, exemplar photo, query photo)
PACKAGED: Final = (
    ("colour/sepia", "astronaut", "chelsea"),
    ("style/starry-night", "coffee", "rocket"),
    ("weather/night", "chelsea", "coffee"),
    ("style/crayon", "rocket", "astronaut"),
)


@dataclass(frozen=True)
class Example:
    """a, a' and b, and what the edit is called."""

    name: str
    a: Image.Image
    a2: Image.Image
    b: Image.Image

    def tile(self, side: int) -> Image.Image:
        """a, a' and b as they stand on the board, `side` x `side` px in all; where b' will be is left clear."""
        canvas, half = Image.new("RGBA", (side, side)), side // 2
        for image, corner in zip((self.a, self.a2, self.b), ((0, 0), (half, 0), (0, half)), strict=True):
            small = image.copy()
            small.thumbnail((half - 1, half - 1))
            left, top = ((half - length) // 2 for length in small.size)
            canvas.paste(small, (corner[0] + left, corner[1] + top))
        return canvas


def find_examples(data: Path, count: int) -> list[Example]:
    """Test analogies below `data`, one per task: kinds of edit in turn, and of each kind trained tasks first.

    None where the pipeline has not run.

    Raises:
        ValueError: the data are damaged, or of another version.
    """
    from lorweb.data.shards import RowReader, read_index, read_table
    from lorweb.records import ANALOGY, PAIR

    if not (data / "analogies").is_dir() or not (data / "pairs").is_dir():
        return []
    rows = read_table(data / "analogies", ANALOGY).to_pylist()
    first: dict[str, dict[str, str]] = {}
    for row in sorted((r for r in rows if r["split"] == "test"), key=lambda r: (r["holdout"] != "none", str(r["id"]))):
        first.setdefault(row["task"], row)
    kinds: dict[str, int] = {}
    turns = []
    for row in first.values():
        turns.append((kinds.get(row["edit_type"], 0), row["edit_type"], row))
        kinds[row["edit_type"]] = kinds.get(row["edit_type"], 0) + 1
    chosen = [row for *_, row in sorted(turns, key=lambda turn: turn[:2])[:count]]
    place = {row["id"]: row["at"] for row in read_index(data / "pairs", PAIR, ["id"])}
    read = RowReader(data / "pairs", PAIR, ["before", "after"])
    found = []
    for row in chosen:
        exemplar, query = read(place[row["exemplar"]]), read(place[row["query"]])
        images = [decode_rgb(png, MAX_PIXELS) for png in (exemplar["before"], exemplar["after"], query["before"])]
        found.append(Example(row["instruction"], *images))
    return found


def packaged_examples(side: int) -> list[Example]:
    """Photos that scikit-image packages, square, `side` px, with edits of the packaged catalogue."""
    from lorweb.data.catalogue import load_catalogue
    from lorweb.data.editors import SourceInfo, apply_task
    from lorweb.data.readers.photos import PhotosConfig, PhotosReader

    catalogue = load_catalogue()
    reader = PhotosReader(PhotosConfig(reader="photos", crops=1))
    places = {location.origin.split(":")[1]: location for location in reader.locations()}

    def photo(name: str) -> Image.Image:
        row = reader.read(places[name], side, MAX_PIXELS)
        return Image.open(io.BytesIO(row["image"])).convert("RGB")

    found = []
    for task_id, exemplar, query in PACKAGED:
        task, a = catalogue.task(task_id), photo(exemplar)
        a2 = apply_task(a, task, SourceInfo(f"photo:{exemplar}", "photo"), seed=0)
        found.append(Example(task.instructions[0], a, a2, photo(query)))
    return found
