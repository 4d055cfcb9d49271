"""Places full of bad input, drawn from a seed, and what has to become of each: for the stage that reads them."""

import io
import json
import os
import random
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.data.pictures import bomb, encoded, noise, write

FORMS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF")
LICENCE = "CC0-1.0"


@dataclass
class World:
    """Bad inputs by origin with the check that must name each, and the origins that must come through."""

    folder: Path
    random: random.Random
    bad: dict[str, str] = field(default_factory=dict)
    good: set[str] = field(default_factory=set)
    number: int = 0

    def image(self, size: tuple[int, int] = (70, 60)) -> Image.Image:
        """No two of them alike."""
        self.number += 1
        return noise(self.number, size)


def poisoned(folder: Path, seed: int, times: int) -> tuple[World, list[dict[str, Any]]]:
    """A world of bad input, `times` over, and the entries of collect.readers that read it."""
    world = World(folder, random.Random(seed))
    readers = [_files(world, times), _index(world), _parquet(world, times), _tar(world, times), _relation(world, times)]
    return world, readers


def _cut(world: World, form: str) -> bytes:
    image = world.image()
    whole = encoded(image.quantize(64) if form == "GIF" else image, form)
    return whole[: world.random.randint(16, int(len(whole) * 0.7))]


def _files(world: World, times: int) -> dict[str, Any]:
    root = world.folder / "images"

    def bad(name: str, data: bytes | str, check: str, escaped: str | None = None) -> None:
        write(root / name, data)
        world.bad[f"folder:mine/{escaped or name}"] = check

    def good(name: str, escaped: str | None = None) -> None:
        write(root / name, encoded(world.image()))
        world.good.add(f"folder:mine/{escaped or name}")

    for turn in range(times):
        for form in FORMS:
            bad(f"cut/{form.lower()}{turn}.{form.lower()}", _cut(world, form), "truncated")
        side, gif = world.random.randint(20_000, 60_000), encoded(world.image().quantize(4), "GIF")
        bad(f"bombs/{turn}.png", bomb(side, side), "too_large")
        bad(f"bombs/{turn}.gif", gif[:6] + b"\xff" * 4 + gif[10:], "too_large")
        bad(f"noise/{turn}.png", b"\x01" + world.random.randbytes(world.random.randint(1, 4000)), "not_an_image")
        bad(f"noise/{turn}.jpg", f"words {turn}", "not_an_image")
        bad(f"noise/{turn}.webp", b"PK\x03\x04" + world.random.randbytes(60), "not_an_image")
        bad(f"none/{turn}.png", b"", "empty")
        sizes = [(1, 1), (1, 20_000), (20_000, 1), (7, 300)]
        bad(f"sizes/{turn}.png", encoded(world.image(sizes[turn % 4])), "too_small")
        bad(f"names/{turn}\n.png", b"", "empty", f"names/{turn}\\n.png")
        bad(f"names/{turn}\udcff\udcfe.png", b"no", "not_an_image", f"names/{turn}\\udcff\\udcfe.png")
        bad(f"names/{turn} ünï 画像.png", b"no", "not_an_image")
        bad(f"names/{str(turn) * 240}"[:240] + ".png", b"", "empty")
        write(root / f"said/{turn}.png", encoded(world.image()))
        bad(
            f"said/{turn}.json",
            world.random.choice(["{", "[]", '{"caption": 1}', "\udcff"]).encode("utf-8", "replace"),
            "",
        )
        del world.bad[f"folder:mine/said/{turn}.json"]
        world.bad[f"folder:mine/said/{turn}.png"] = "bad_caption"
        (root / "odd").mkdir(exist_ok=True)
        os.mkfifo(root / f"odd/{turn}.png")
        (root / f"odd/{turn}loop.png").symlink_to(f"{turn}loop.png")
        (root / f"odd/{turn}dangling.png").symlink_to("nowhere")
        (root / f"odd/{turn}circle").symlink_to("..")
        (root / f"odd/{turn}dir.png").mkdir()
        odd = {"": "not_a_file", "loop": "broken_link", "dangling": "broken_link", "dir": "not_a_file"}
        world.bad |= {f"folder:mine/odd/{turn}{kind}.png": check for kind, check in odd.items()}
        world.bad[f"folder:mine/odd/{turn}circle"] = "linked_folder"
        good(f"names/good {turn}\n.png", f"names/good {turn}\\n.png")
        good(f"names/good {turn}\udcff.png", f"names/good {turn}\\udcff.png")
        good(f"odd/{turn}dir.png/画像.jpg")
        good(f"wrong suffix {turn}.md")
    return {"reader": "folder", "name": "mine", "path": "images", "licence": LICENCE, "captions": "sidecar"}


def _index(world: World) -> dict[str, Any]:
    write(world.folder / "listed/good.png", encoded(world.image()))
    rows = ["good.png,words", "good.png,again", "gone.png,x", "../up.png,x", "only one field", "a,b,c,d", ',"unclosed']
    write(world.folder / "index.csv", "\n".join(["file,words", *rows]))
    world.good.add("folder:listed/good.png")
    faults = {"good.png (2)": "duplicate_name", "gone.png": "missing", "../up.png": "outside"}
    faults |= {f"row {4 + i} of the index": "bad_row" for i in range(2)} | {"row 6 of the index": "bad_index"}
    world.bad |= {f"folder:listed/{name}": check for name, check in faults.items()}
    columns = {"path": "file", "caption": "words", "subject": None, "category": None, "licence": None}
    captions = {"index": "index.csv", **columns}
    return {"reader": "folder", "name": "listed", "path": "listed", "licence": LICENCE, "captions": captions}


def _parquet(world: World, times: int) -> dict[str, Any]:
    (world.folder / "shards").mkdir()
    rows = [b"", None, b"no image", _cut(world, "JPEG"), encoded(world.image())]
    pq.write_table(pa.table({"image": pa.array(rows, pa.binary())}), world.folder / "shards/rows.parquet")
    checks = ["empty", "empty", "not_an_image", "truncated"]
    world.bad |= {f"parquet:set/rows.parquet#{i}": check for i, check in enumerate(checks)}
    world.good.add("parquet:set/rows.parquet#4")
    whole = (world.folder / "shards/rows.parquet").read_bytes()
    for turn in range(times):
        write(world.folder / f"shards/cut{turn}.parquet", whole[: world.random.randint(0, len(whole) - 9)])
        world.bad[f"parquet:set/cut{turn}.parquet"] = "bad_shard"
    columns = {"image": "image", "caption": None, "subject": None, "category": None, "licence": None}
    return {"reader": "parquet", "name": "set", "path": "shards", "licence": LICENCE, "columns": columns}


def _tar(world: World, times: int) -> dict[str, Any]:
    (world.folder / "tars").mkdir()
    for turn in range(times):
        path = world.folder / f"tars/{turn}.tar"
        with tarfile.open(path, "w") as tar:
            for name, data in {
                "a.png": encoded(world.image()),
                "b.png": b"",
                "c.txt": b"c",
                "d.png": b"\0" * 999,
            }.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            end = info.size + tar.offset - 1536
        path.write_bytes(path.read_bytes()[: min(end, tar.offset - 700)])
        world.good.add(f"webdataset:tars/{turn}.tar#a")
        faults = {"#b": "empty", "#c": "no_image", "#d": "truncated", "": "bad_shard"}
        world.bad |= {f"webdataset:tars/{turn}.tar{name}": check for name, check in faults.items()}
    entry = {"images": ["png"], "captions": "sidecar"}
    return {"reader": "webdataset", "name": "tars", "path": "tars", "licence": LICENCE, **entry}


def _relation(world: World, times: int) -> dict[str, Any]:
    for turn in range(times):
        group = world.folder / f"relation/{turn}-Odd_Task/Group1"
        write(group / "good.png", encoded(world.image((120, 60))))
        write(group / "odd.png", encoded(world.image((121, 60))))
        write(group / "unnamed.png", encoded(world.image((120, 60))))
        texts = {"left_image_description": "", "right_image_description": "", "edit_instruction": "turn it"}
        names = ["good.png", "odd.png", "gone.png", "good.png"]
        write(group / "labels.json", json.dumps([*({"img_name": name, **texts} for name in names), {}]))
        write(world.folder / f"relation/{turn}-Bad/Group1/labels.json", world.random.choice(["[", "3", "\0"]))
        place = f"relation252k:rel/{turn}-Odd_Task/Group1"
        world.good.add(f"{place}/good.png")
        faults = {"odd.png": "odd_width", "unnamed.png": "no_label", "gone.png": "missing"}
        faults |= {"labels.json[3]": "duplicate_name", "labels.json[4]": "missing_key"}
        world.bad |= {f"{place}/{name}": check for name, check in faults.items()}
        world.bad[f"relation252k:rel/{turn}-Bad/Group1/labels.json"] = "bad_labels"
    entry = {"instruction": "pair", "edit_types": {}}
    return {"reader": "relation252k", "name": "rel", "path": "relation", "licence": LICENCE, **entry}
