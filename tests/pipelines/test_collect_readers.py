"""Readers of the user's own through the stage, and the guide: its examples run, its table of checks is whole."""

import ast
import csv
import io
import json
import re
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from lorweb.data.readers import build_reader
from lorweb.data.readers.python import PythonReaderConfig
from lorweb.data.shards import read_table
from lorweb.records import GIVEN, REJECT, SOURCE
from pipelines import collect
from pipelines._rows import in_process
from tests.data.pictures import encoded, noise, write
from tests.pipelines.projects import ROOT, write_params

GUIDE = (ROOT / "docs/data_readers.md").read_text(encoding="utf-8")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(place, *readers):
    write_params(place, {"collect": {"readers": list(readers), "max_error_rate": 1.0}})
    collect.main(in_process)
    return {row["origin"]: row for row in read_table(place / "data/sources", SOURCE).to_pylist()}


OWN = """
from PIL import Image
from lorweb.data.readers import Edit, Facts, Location, given_pair, source_row
from lorweb.data.rejects import Rejected

class Own:
    def __init__(self, options):
        self.options = options
        options["needed"]
    def locations(self):
        if self.options["needed"] == "list": raise RuntimeError("no list")
        if self.options["needed"] == "known": return [Location("own:0", "", {"a": {1}})]
        return [1] if self.options["needed"] == "odd" else [Location(f"own:{i}", "") for i in range(7)]
    def read(self, location, size, max_pixels):
        i = int(location.origin[4:])
        if i == 0: raise Rejected("mine", "not this one:\\n\\udcff")
        if i == 1: raise RuntimeError("a bug")
        image = Image.new("RGB", (size, size if i != 2 else 9), (i, 0, 0))
        row = source_row(location, image, Facts(f"o{i}", "photo", "\\ud800" if i == 6 else "", "MIT"))
        if i == 3: del row["licence"]
        if i == 4: return given_pair(row, Image.new("RGB", (size, size)), Edit("own/black", "colour", "black"))
        return row

class NoReader:
    def locations(self): return []
"""


def test_a_reader_of_the_users_own(place, monkeypatch):
    write(place / "own_reader_a.py", OWN)
    rows = run(place, {"reader": "python", "class": "own_reader_a:Own", "options": {"needed": 1}})
    assert set(rows) == {"own:4", "own:5"}
    checks = [row["check"] for row in read_table(place / "data/sources/rejects", REJECT).to_pylist()]
    assert sorted(checks) == ["bad_row", "bad_row", "bad_row", "error", "mine"]
    assert read_table(place / "data/sources/given", GIVEN)["task"].to_pylist() == ["own/black"]


@pytest.mark.parametrize(
    ("name", "needed", "words"),
    [
        ("no_such_module:Own", 1, "cannot import 'no_such_module'"),
        ("own_reader_b:Onw", 1, "no class 'Onw' in 'own_reader_b'; did you mean 'Own'"),
        ("own_reader_b:NoReader", 1, "is no reader: it has no read()"),
        ("own_reader_b:Own", None, "could not be made with options {}: KeyError: 'needed'"),
        ("own_reader_b:Own", "list", "cannot list its sources: RuntimeError: no list"),
        ("own_reader_b:Own", "known", "cannot list its sources: TypeError: Object of type set is not JSON"),
        ("own_reader_b:Own", "odd", "locations() gave int, not lorweb.data.readers.Location"),
    ],
)
def test_mistakes_in_a_reader_of_the_users_own_are_one_sentence(place, name, needed, words):
    write(place / "own_reader_b.py", OWN)
    options = {} if needed is None else {"needed": needed}
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        list(build_reader(PythonReaderConfig(**{"reader": "python", "class": name, "options": options})).locations())
    assert "\n" not in str(caught.value)
    with pytest.raises(SystemExit, match=re.escape(words)):
        run(place, {"reader": "python", "class": name, "options": options})


def test_the_examples_of_the_guide_run(place):
    _data_of_the_guide(place)
    entries = [
        e
        for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)
        for e in yaml.safe_load(block)["collect"]["readers"]
    ]
    kinds = [entry["reader"] for entry in entries]
    assert kinds == ["folder", "folder", "parquet", "webdataset", "pairs", "relation252k", "evalset", "python"]
    rows = run(place, *entries)
    counts = {kind: sum(origin.startswith(f"{kind}:") for origin in rows) for kind in (*kinds, "gradients")}
    assert counts == dict.fromkeys(kinds, 1) | {"folder": 2, "python": 0, "gradients": 5}


def test_the_guide_lists_every_check():
    files = [
        *(ROOT / "lorweb/data/readers").glob("*.py"),
        ROOT / "lorweb/data/decode.py",
        ROOT / "pipelines/collect.py",
    ]
    code = "".join(path.read_text() for path in files)
    pairs = [
        node.args for node in ast.walk(ast.parse(code)) if getattr(getattr(node, "func", None), "id", "") == "Rejected"
    ]
    pairs += [node.elts for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Tuple)]
    told = [(pair[0], pair[1]) for pair in pairs if len(pair) >= 2 and isinstance(pair[1], ast.JoinedStr)]
    made = {first.value for first, _ in told if isinstance(first, ast.Constant)}
    named = set(re.findall(r"`([a-z_]+)`", GUIDE[GUIDE.index("## Checks") :]))
    assert all(f'"{check}"' in code for check in named)
    assert len(made) > 20 and not made - named, made - named


def _data_of_the_guide(place):
    write(place / "images/x.png", noise(20))
    with (place / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "title", "model"], ["../images/y.png", "t", "m"], ["y.jpg", "t", "m"]])
    write(place / "images/y.jpg", noise(21))
    (place / "parquet").mkdir()
    pq.write_table(pa.table({"image": [encoded(noise(22))], "text": ["t"]}), place / "parquet/a.parquet")
    (place / "tars").mkdir()
    with tarfile.open(place / "tars/a.tar", "w") as tar:
        info = tarfile.TarInfo("k.png")
        info.size = len(data := encoded(noise(23)))
        tar.addfile(info, io.BytesIO(data))
    write(place / "pairs/painted/before/n.png", noise(24))
    write(place / "pairs/painted/after/n.png", noise(25))
    write(place / "pairs/painted/instruction.txt", "paint it")
    group = place / "Relation252K/1-Style/Group1"
    write(group / "n.png", noise(26, (120, 60)))
    texts = ("left_image_description", "right_image_description", "edit_instruction")
    write(group / "labels.json", json.dumps([{"img_name": "n.png", **dict.fromkeys(texts, "t")}]))
    write(place / "evalset/data/original/unsplash_objects/c-unsplash.jpg", noise(27))
    write(place / "evalset/data/decoded_random_inference_set/s/objects/Do_it/c-unsplash_1.png", noise(28))
    write(place / "my_reader.py", re.search(r"```python\n(.*?)```", GUIDE, re.S)[1])
