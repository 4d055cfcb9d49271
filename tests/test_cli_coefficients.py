"""`lorweb mix`, `bake` and `apply --fold`: what they load, what they refuse, what they say of the result."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from safetensors import safe_open

from lorweb import cli
from lorweb.basis.mix_files import read_mix
from tests.kontext_tiny import drawn_image
from tests.model_tiny import save_model, save_parts

IMAGES = ("a.png", "a2.png", "b.png")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder; the working folder holds a.png, a2.png, b.png and their coefficients in m.safetensors."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(IMAGES, start=1):
        drawn_image(seed, 40, 40).save(tmp_path / name)
    made = save_model(save_parts(tmp_path / "parts"), tmp_path / "model")
    run("mix", *IMAGES, "-o", "m.safetensors", "--model", str(made))
    return made


def run(*words: str) -> None:
    """`lorweb WORDS` in this process, errors raised."""
    typer.main.get_command(cli.app).main(list(words), prog_name="lorweb", standalone_mode=False)


def report(path: str) -> dict:
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["lorweb_bake"])


@pytest.mark.slow
def test_files_are_added_and_baked_where_neither_base_nor_encoder_is(model):
    run("bake", *IMAGES, "-o", "images.safetensors", "--model", str(model))
    base = report("images.safetensors")["base"]
    shutil.rmtree(Path(base).parent)
    run("mix", "--mix", "m.safetensors:2", "--mix", "m.safetensors:-1", "-o", "same.safetensors", "--model", str(model))
    run("bake", "--mix", "m.safetensors", "-o", "file.safetensors", "--model", str(model))
    np.testing.assert_allclose(
        read_mix(Path("same.safetensors")).mix_LN, read_mix(Path("m.safetensors")).mix_LN, rtol=1e-5
    )
    assert Path("file.safetensors").read_bytes()[-4096:] == Path("images.safetensors").read_bytes()[-4096:]
    assert report("file.safetensors") == report("images.safetensors")


def test_the_error_of_a_16_bit_file_is_that_of_the_file(model, capsys):
    run("bake", *IMAGES, "-o", "half.safetensors", "--dtype", "bfloat16", "--model", str(model))
    told = report("half.safetensors")["total_error"]
    assert 1e-4 < told < 1e-2
    assert f"relative error {told:.4f} in all" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["mix", "bake"])
@pytest.mark.parametrize("out", ["out.txt", "."])
def test_another_output_than_safetensors_is_refused_before_anything_is_loaded(tmp_path, command, out, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"must be a \.safetensors file; give one as -o NAME\.safetensors"):
        run(command, "--mix", "gone.safetensors", "-o", out, "--model", "no-such-model")


def test_a_folded_answer_is_the_live_one(model):
    for out, options in (("live.png", ()), ("folded.png", ("--fold",))):
        run("apply", *IMAGES, "-o", out, "--strength", "1.5", *options, "--model", str(model))
    live, folded = (np.asarray(Image.open(name)).astype(int) for name in ("live.png", "folded.png"))
    assert np.abs(live - folded).max() <= 1
    assert live.std() > 1


@pytest.mark.slow
def test_each_query_of_a_folder_is_folded_by_itself(model, tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in (5, 6):
        drawn_image(seed, 40, 40).save(tmp_path / "photos" / f"{seed}.png")
    for out, options in (("live", ()), ("folded", ("--fold",))):
        run("apply", "a.png", "a2.png", "photos", "-o", out, *options, "--model", str(model))
    for name in ("5.png", "6.png"):
        live, folded = (np.asarray(Image.open(Path(folder) / name)).astype(int) for folder in ("live", "folded"))
        assert np.abs(live - folded).max() <= 1
