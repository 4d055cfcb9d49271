"""Editors that do not diffuse: twins of emoji, given pairs, the user's own classes, and what every answer must be."""

import hashlib
import io
import json
import shutil

import pytest
from PIL import Image

from lorweb.data.decode import encode_png
from lorweb.data.editors import EmbeddedEditor
from lorweb.data.editors.base import checked
from lorweb.data.editors.build import build_editor, describe
from lorweb.data.editors.emoji import EmojiEditor, emoji_tasks
from lorweb.data.editors.entries import EmojiConfig, GivenConfig, PythonConfig
from lorweb.data.editors.given import GivenEditor, given_tasks, read_given
from lorweb.data.readers.fluent import FluentConfig, FluentReader
from lorweb.data.rejects import Rejected
from lorweb.data.shards import write_rows
from lorweb.records import GIVEN
from tests.data.editing import POOL, SEPIA, request
from tests.kontext_tiny import drawn_image
from tests.pipelines.projects import write_icons

OWN = '''
class Grey:
    """Half way to grey, by an option."""
    name, revision, seed_by = "grey", "1", "pair"

    def __init__(self, options):
        from PIL import ImageOps
        self.amount, self.grey = options["amount"], ImageOps.grayscale

    def __call__(self, batch):
        from PIL import Image
        images = [request.image() for request in batch]
        return [Image.blend(i, self.grey(i).convert("RGB"), self.amount) for i in images]

class Nameless:
    revision, seed_by = "1", "pair"

class Callless:
    name, revision, seed_by = "x", "1", "task"

class Slashed:
    name, revision, seed_by = "a/b", "1", "task"

class Undecided:
    name, revision = "x", "1"
'''


def emoji_config(cache):
    return EmojiConfig(editor="emoji", tasks=("*",), pool=POOL, cache=str(cache))


def test_every_drawing_becomes_every_other_hand():
    tasks = emoji_tasks()
    assert set(tasks) == {f"emoji/{a}-to-{b}" for a in ("flat", "glossy") for b in ("flat", "glossy", "noto") if a != b}
    assert all(task.holdout is None and task.fits == ("emoji",) for task in tasks.values())


def test_a_twin_is_the_other_sets_drawing_of_the_same_name(tmp_path):
    write_icons(tmp_path)
    editor = EmojiEditor(emoji_config(tmp_path))
    reader = FluentReader(FluentConfig(reader="fluent", drawing="flat", limit=9, cache=str(tmp_path)))
    rows = {place.origin: reader.read(place, 64, 10**6) for place in reader.locations()}
    assert set(rows) == {f"fluent:flat:{name}" for name in ("ball", "box", "only-flat")}
    wide = Image.open(io.BytesIO(rows["fluent:flat:only-flat"]["image"]))  # 64 x 32 units, a circle round (16, 16)
    assert wide.size == (64, 64) and wide.getpixel((16, 32)) == (0, 0, 0) and wide.getpixel((16, 12)) == (255, 255, 255)
    to_noto = emoji_tasks()["emoji/flat-to-noto"]
    asked = [request(task=to_noto, origin=origin) for origin in sorted(rows)]
    ball, box, lonely = checked(editor(asked), asked)
    assert ball.getpixel((32, 32)) == (0, 128, 0) and ball.getpixel((1, 1)) == (255, 255, 255)
    assert box.getpixel((32, 32)) == (0, 0, 128), "an alias is its parent"
    assert isinstance(lonely, Rejected) and lonely.check == "no_twin"
    assert not editor.fits(to_noto, {"origin": "fluent:glossy:ball"})
    assert editor.licence(to_noto, "MIT") == "MIT AND Apache-2.0"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on this machine")
def test_the_real_sets_have_twins(tmp_path):
    try:
        editor = EmojiEditor(emoji_config(tmp_path))
    except ValueError as error:
        if "npm could not fetch" not in str(error):
            raise
        pytest.skip(f"no network to the package registry: {error}")
    task = emoji_tasks()["emoji/flat-to-glossy"]
    asked = [request(task=task, origin=f"fluent:flat:{name}") for name in ("dog-face", "red-apple")]
    answers = checked(editor(asked), asked)
    assert all(isinstance(a, Image.Image) and len(a.getcolors(64 * 64) or []) > 50 for a in answers)
    assert len(editor.names["flat"] & editor.names["noto"]) > 1000


@pytest.fixture
def given(tmp_path):
    """data/sources with two given pairs, one of them damaged."""
    rows = []
    for number, source in enumerate(("s1", "s2")):
        after = encode_png(drawn_image(number + 10, 64, 64))
        sha = hashlib.sha256(after).hexdigest() if source == "s1" else "0" * 64
        rows.append({"source": source, "task": "given/draw", "edit_type": "style", "instruction": f"draw {source}",
                     "after": after, "sha256": sha})  # fmt: skip
    write_rows(rows, tmp_path / "given", GIVEN)
    return tmp_path


def test_given_pairs_are_looked_up_and_checked(given):
    cfg = GivenConfig(editor="given", tasks=("*",), pool=POOL)
    editor = build_editor(cfg, given)
    batch = [request(1), request(2), request(3)]
    after, damaged, missing = checked(editor(batch), batch)
    assert encode_png(after) == encode_png(drawn_image(10, 64, 64))
    assert [damaged.check, missing.check] == ["damaged", "no_pair"]
    task = given_tasks(read_given(given))["given/draw"]
    assert task.instructions == ("draw s1", "draw s2") and task.holdout is None
    with pytest.raises(ValueError, match="add a reader of pairs"):
        GivenEditor(given / "nowhere")
    with pytest.raises(ValueError, match="give the task one type"):
        given_tasks([{"task": "t", "edit_type": kind, "instruction": "i"} for kind in ("style", "colour")])


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_editors.py").write_text(OWN)
    (tmp_path / "broken_editors.py").write_text("import no_such_thing_at_all")
    monkeypatch.chdir(tmp_path)

    def entry(name, module="own_editors", **options):
        found = {"editor": "python", "tasks": ("*",), "pool": POOL, "class": f"{module}:{name}", "options": options}
        return PythonConfig(**found)

    return entry


def test_a_class_of_the_users_own(own, tmp_path):
    editor = build_editor(own("Grey", amount=1.0), tmp_path)
    (after,) = checked(editor([request(1)]), [request(1)])
    r, g, b = after.getpixel((20, 20))
    assert r == g == b
    facts = [describe(own("Grey", amount=a)) for a in (0.5, 1.0)]
    assert facts[0].name == "grey" and facts[0].seed_by == "pair" and facts[0].revision != facts[1].revision


@pytest.mark.parametrize(
    ("name", "module", "words"),
    [
        ("Gray", "own_editors", "no class 'Gray' in 'own_editors'; did you mean 'Grey'"),
        ("Grey", "no_such_module", "must lie in the project folder or be installed"),
        ("Grey", "broken_editors", "no_such_thing_at_all"),
        ("Nameless", "own_editors", "no text 'name'"),
        ("Callless", "own_editors", "cannot be called"),
        ("Slashed", "own_editors", "use up to 40 letters"),
        ("Undecided", "own_editors", "no seed_by"),
        ("Grey", "own_editors", "could not be made with options {}: KeyError: 'amount'"),
    ],
)
def test_what_is_wrong_with_a_users_class_is_a_sentence(own, tmp_path, name, module, words):
    with pytest.raises(ValueError, match=words):
        build_editor(own(name, module), tmp_path)


def test_answers_are_checked():
    batch = [request(n) for n in range(4)]
    good = EmbeddedEditor()(batch)
    answers = [good[0], good[1].convert("L"), good[2].resize((8, 8)), "a.png"]
    kept = checked(answers, batch)
    assert kept[0] is good[0] and [a.check for a in kept[1:]] == ["bad_answer"] * 3
    with pytest.raises(ValueError, match="gave 3 answers to 4 requests"):
        checked(answers[:3], batch)
    (unfit,) = EmbeddedEditor()(
        [request(task=SEPIA.__class__("attribute/x", "attribute", (), ("a", "b"), ("avatar:*",), "none"))]
    )
    assert isinstance(unfit, Rejected) and unfit.check == "unfit"


def test_a_damaged_icon_file_says_what_to_do(tmp_path):
    write_icons(tmp_path)
    (tmp_path / "noto.json").write_text(json.dumps({"icons": []}))
    with pytest.raises(ValueError, match="delete it, and it is fetched again"):
        EmojiEditor(emoji_config(tmp_path))
