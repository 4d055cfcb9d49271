"""`lorweb reproduce`: the same bytes from what a picture says of itself, or a sentence on what is another."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lorweb import AnalogyPipeline
from lorweb.basis.mixes import mix_hash
from lorweb.commands import read_image
from lorweb.provenance import SERVED, facts_of_one, model_facts, png_with_facts, read_facts, surroundings
from tests.cli_cases import IMAGES, run
from tests.kontext_tiny import drawn_image
from tests.model_tiny import save_model

pytestmark = pytest.mark.slow


def made(capsys, model: Path, *options: str) -> Path:
    run(capsys, "apply", *IMAGES, "-o", "out.png", "--model", str(model), *options)
    return Path("out.png")


@pytest.mark.parametrize("options", [(), ("--fold", "--strength", "1.5", "--seed", "3", "--steps", "3")])
def test_a_picture_is_made_again_to_the_byte(folder, model, capsys, options):
    out = made(capsys, model, *options, "--prompt", "warmer", "--guidance", "2")
    code, said, _ = run(capsys, "reproduce", "out.png", *IMAGES, "-o", "again.png")
    assert code == 0 and said == "out.png: the same bytes\n"
    assert Path("again.png").read_bytes() == out.read_bytes()
    code, said, _ = run(capsys, "reproduce", "out.png", *IMAGES, "--json")
    told = json.loads(said)
    assert code == 0 and told["same_bytes"] and told["largest_difference"] == 0 and told["output"] is None


def test_each_of_a_batch_is_made_again_to_the_byte(folder, model, capsys):
    (folder / "many").mkdir()
    for seed in range(4, 9):  # four, and one more
        drawn_image(seed, 40, 40).save(folder / "many" / f"{seed}.png")
    (folder / "many" / "5a.png").write_bytes(b"broken")
    run(capsys, "apply", "a.png", "a2.png", "many", "-o", "out", "--model", str(model))
    batches = [read_facts(folder / "out" / f"{seed}.png")["batch"] for seed in range(4, 9)]
    assert batches == [[0, 4], [1, 4], [2, 4], [3, 4], [0, 1]]
    for seed in (4, 6, 8):
        code, said, err = run(capsys, "reproduce", f"out/{seed}.png", "a.png", "a2.png", f"many/{seed}.png")
        assert code == 0 and said == f"out/{seed}.png: the same bytes\n", err


def test_what_python_drew_by_itself_is_made_again_to_the_byte(folder, model, capsys):
    pipe = AnalogyPipeline.from_pretrained(model)
    images = {key: read_image(Path(f"{key}.png")) for key in ("a", "a2", "b")}
    settings = {"prompt": "warm", "steps": 3, "guidance": 2.0, "seed": 11, "strength": 0.8}
    drawn = pipe(*images.values(), "warm", 3, 2.0, seed=11, strength=0.8)
    around = {**model_facts(str(model), model / "basis.safetensors"), **surroundings(pipe, "none")}
    facts = facts_of_one(settings, around, images, mix_hash(drawn.mix_BLN[0]))
    Path("served.png").write_bytes(png_with_facts(drawn.images[0], facts))
    assert run(capsys, "reproduce", "served.png", *IMAGES)[:2] == (0, "served.png: the same bytes\n")


def test_what_a_server_drew_is_looked_for_by_its_hash(folder, model, parts, capsys):
    made(capsys, model)
    png = png_with_facts(Image.open("out.png"), {**read_facts(Path("out.png")), "model": SERVED})
    Path("out.png").write_bytes(png)
    code, _, err = run(capsys, "reproduce", "out.png", *IMAGES)
    assert code == 1 and "no model with its basis" in err and "give it with --model" in err
    assert "no registry was asked" in err
    save_model(parts, folder / "models" / "candidate", seed=5)
    shutil.copytree(model, folder / "models" / "older" / "one")
    assert run(capsys, "reproduce", "out.png", *IMAGES)[:2] == (0, "out.png: the same bytes\n")
    shutil.rmtree(folder / "models")
    assert run(capsys, "reproduce", "out.png", *IMAGES, "--model", str(model))[0] == 0


def test_coefficient_files_are_asked_for_and_checked(folder, model, capsys):
    run(capsys, "mix", *IMAGES, "-o", "m.safetensors", "--model", str(model), "--scale", "0.5")
    run(capsys, "mix", *IMAGES, "-o", "other.safetensors", "--model", str(model))
    made(capsys, model, "--mix", "m.safetensors")
    assert run(capsys, "reproduce", "out.png", *IMAGES)[:2] == (0, "out.png: the same bytes\n")
    Path("m.safetensors").rename("moved.safetensors")
    code, _, err = run(capsys, "reproduce", "out.png", *IMAGES)
    assert code == 1 and "there is no coefficient file m.safetensors" in err
    assert run(capsys, "reproduce", "out.png", *IMAGES, "--mix", "moved.safetensors")[0] == 0
    code, _, err = run(capsys, "reproduce", "out.png", *IMAGES, "--mix", "other.safetensors")
    assert code == 1 and "but the picture was made with" in err and "as --mix: m.safetensors" in err


def test_another_image_or_model_is_refused_with_both_hashes(folder, model, parts, capsys):
    facts = read_facts(made(capsys, model))
    code, _, err = run(capsys, "reproduce", "out.png", "a.png", "b.png", "a2.png")
    assert code == 1 and "but a2 had" in err and facts["inputs"]["a2"]["pixels_sha256"] in err and "(a2.png)" in err
    other = save_model(parts, folder / "other", seed=5)
    code, _, err = run(capsys, "reproduce", "out.png", *IMAGES, "--model", str(other), "-o", "again.png")
    assert code == 1 and f"but the picture was made with {facts['basis_sha256']}" in err
    assert not Path("again.png").exists()
    moved = png_with_facts(Image.open("out.png"), {**facts, "encoder_revision": "0" * 16})
    Path("out.png").write_bytes(moved)
    code, _, err = run(capsys, "reproduce", "out.png", *IMAGES)
    assert code == 1 and "made with encoder revision 0000000000000000, here it is" in err


def test_a_picture_that_comes_out_otherwise_says_by_how_much_and_why(folder, model, capsys):
    out = made(capsys, model)
    facts, image = read_facts(out), Image.open(out).convert("RGB")
    red, *rest = image.getpixel((5, 5))
    image.putpixel((5, 5), (red ^ 4, *rest))
    out.write_bytes(png_with_facts(image, facts))
    code, said, err = run(capsys, "reproduce", "out.png", *IMAGES, "--json")
    told = json.loads(said)
    assert code == 1 and told["largest_difference"] == 4 and told["share_that_differs"] == 1 / (40 * 40 * 3)
    assert "its pixels were changed after it was made" in err and told["error"] in err
    versions = {**facts["versions"], "torch": "1.0"}
    out.write_bytes(png_with_facts(image, {**facts, "versions": versions}))
    _, _, err = run(capsys, "reproduce", "out.png", *IMAGES)
    assert "versions was {" in err and "'torch': '1.0'" in err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": None}, "batch"),
        ({"batch": [0, 10**9]}, "batch"),
        ({"batch": [3, 2]}, "number 3 of 2"),
        ({"steps": 0}, "steps"),
        ({"steps": 10**9}, "less than or equal to 1000"),
        ({"seed": -1}, "seed"),
        ({"strength": "much"}, "strength"),
        ({"inputs": [1]}, "does not say its a, a2, b"),
        ({"mixes": {"a": 1}}, "mixes"),
        ({"offload": "disk"}, None),  # of no weight on the CPU
    ],
)
def test_a_recipe_that_was_changed_by_hand_is_refused_or_harmless(folder, model, capsys, change, words):
    out = made(capsys, model)
    out.write_bytes(png_with_facts(Image.open(out), {**read_facts(out), **change}))
    code, _, err = run(capsys, "reproduce", "out.png", *IMAGES)
    assert "Traceback" not in err
    assert code == 0 if words is None else (code == 1 and words in err)


def test_what_an_older_version_wrote_is_not_guessed_at(folder, model, capsys):
    out = made(capsys, model)
    old = {key: value for key, value in read_facts(out).items() if key in ("seed", "strength", "basis_sha256", "mix")}
    out.write_bytes(png_with_facts(Image.open(out), old))
    code, _, err = run(capsys, "reproduce", "out.png", *IMAGES)
    assert code == 1 and "does not say its prompt, steps, guidance" in err and "older version" in err


@pytest.mark.parametrize("name", ["mix", "content_sha256"])
def test_a_hash_that_does_not_hold_is_not_vouched_for(folder, model, capsys, name):
    out = made(capsys, model)
    facts = read_facts(out)
    out.write_bytes(png_with_facts(Image.open(out), {**facts, name: "0" * len(facts[name])}))
    code, said, err = run(capsys, "reproduce", "out.png", *IMAGES, "--json")
    told = json.loads(said)
    assert code == 1 and told["same_pixels"] and told["does_not_hold"] == [name]
    assert "has the same pixels, but is not made as it says" in err and f"{name} was 0000" in err and facts[name] in err


def test_what_nothing_here_can_be_compared_with_is_named(folder, model, capsys):
    out = made(capsys, model)
    facts = read_facts(out)
    inputs = {**facts["inputs"], "prompt": "", "b": {**facts["inputs"]["b"], "name": "famous.png", "by": "me"}}
    claims = {"lineage_key": "key", "artist": "somebody", "inputs": inputs, "prompt": "a hat", "model": "models:/x/9"}
    out.write_bytes(png_with_facts(Image.open(out), {**facts, **claims}))
    code, _, err = run(capsys, "reproduce", "out.png", *IMAGES, "--model", str(model))
    assert code == 1 and "comes out differently" in err, "the prompt that it says is the one that it is drawn with"
    out.write_bytes(png_with_facts(Image.open(out), {**facts, **claims, "prompt": ""}))
    code, said, err = run(capsys, "reproduce", "out.png", *IMAGES, "--model", str(model))
    assert code == 0 and said == "out.png: the same bytes\n"
    expected = "artist, inputs.b.by, inputs.b.name, inputs.prompt, lineage_key, model"
    assert err == f"not checked, and so not confirmed: {expected}\n"
