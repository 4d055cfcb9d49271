"""What commands keep: the images they read, and word of the work done before a fault or Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from lorweb.commands import SUFFIXES, read_image
from lorweb.outputs import plan_outputs
from tests.cli_cases import IMAGES, run
from tests.kontext_tiny import drawn_image

REPO = Path(__file__).parents[1]


def many(folder: Path, count: int) -> None:
    (folder / "many").mkdir()
    for seed in range(count):
        drawn_image(seed, 40, 40).save(folder / "many" / f"{seed:02}.png")


@pytest.mark.parametrize("out", ["b.png", "a.png", "./a2.png", "link/b.png"])
def test_an_image_that_is_read_is_not_written_over(folder, capsys, out):
    (folder / "link").symlink_to(folder)
    before = {path: path.read_bytes() for path in folder.glob("*.png")}
    code, _, err = run(capsys, "apply", *IMAGES, "-o", out, "--model", "gone")
    name = Path(out).name
    assert code == 1 and f"would be written over the image {name}, which is read" in err, err
    code, _, err = run(capsys, "reproduce", "made.png", *IMAGES, "-o", out)
    assert code == 1 and f"would be written over the image {name}" in err
    code, _, err = run(capsys, "reproduce", "made.png", *IMAGES, "-o", "made.png")
    assert code == 1 and "would be written over the image made.png" in err
    assert {path: path.read_bytes() for path in folder.glob("*.png")} == before


def test_a_folder_of_images_is_not_written_over(folder, capsys):
    many(folder, 2)
    code, _, err = run(capsys, "apply", "a.png", "a2.png", "many", "-o", "many/", "--model", "gone")
    assert code == 1 and "many/00.png would be written over the image many/00.png" in err
    shutil.copy("many/00.png", "b.png")
    drawn_image(3, 40, 40).save("many/b.jpg")
    for path in Path("many").glob("*.png"):
        path.unlink()
    code, _, err = run(capsys, "apply", "a.png", "b.png", "many", "-o", ".", "--model", "gone")
    assert code == 1 and "b.png would be written over the image b.png" in err, "of the exemplar"
    assert plan_outputs(Path("many"), Path("many")) == {Path("many/b.jpg"): Path("many/b.png")}


def test_no_file_that_is_read_and_no_model_is_written_over(folder, model, capsys):
    shutil.copytree(model, "M")
    shutil.copy("M/basis.safetensors", "alone.safetensors")
    Path("w.safetensors").write_bytes(b"coefficients")
    Path("soft.safetensors").symlink_to("w.safetensors")
    Path("hard.safetensors").hardlink_to("w.safetensors")
    Path("l").symlink_to("M")
    Path("profiles").mkdir()
    for name in ("params.yaml", "profiles/mine.yaml"):
        Path(name).write_text("seed: 0")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    words = "would be written over w.safetensors, which is read; choose another output with -o"
    for command in ("mix", "bake"):
        for out in ("w.safetensors", "./w.safetensors", "soft.safetensors", "hard.safetensors"):
            code, _, err = run(capsys, command, "--mix", "w.safetensors:0.5", "-o", out, "--model", "M")
            assert code == 1 and f"{Path(out)} {words}" in err, (command, out, err)
        for out in ("M/basis.safetensors", "M/new.safetensors", "l/new.safetensors"):
            code, _, err = run(capsys, command, *IMAGES, "-o", out, "--model", "M")
            assert code == 1 and f"{Path(out).parent} is the folder of a model" in err, (command, out, err)
        code, _, err = run(capsys, command, *IMAGES, "-o", "alone.safetensors", "--model", "alone.safetensors")
        assert code == 1 and "would be written over alone.safetensors, which is read" in err, err
    for words in (("health", "M", "-o", "M"), ("plan", "--flux", "-o", "M/plan.json")):
        code, _, err = run(capsys, *words)
        assert code == 1 and "M is the folder of a model" in err, err
    for name in ("params.yaml", "profiles/mine.yaml"):
        code, _, err = run(capsys, "plan", "--flux", "-o", f"./{name}")
        assert code == 1 and f"{name} would be written over {name}, which is read" in err, err
    code, _, err = run(capsys, "calibrate", "w.safetensors", "-o", "hard.safetensors")
    assert code == 1 and "would be written over w.safetensors" in err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_large_folder_is_planned_at_once(tmp_path):
    for number in range(4000):
        (tmp_path / f"{number}.png").touch()
    begun = time.monotonic()
    assert len(plan_outputs(tmp_path, tmp_path / "out")) == 4000
    assert time.monotonic() - begun < 2.0
    (tmp_path / "7.jpg").touch()
    with pytest.raises(ValueError, match=r"would be written to 7\.png; rename them apart"):
        plan_outputs(tmp_path, tmp_path / "out")


def test_formats_that_start_helper_programs_are_no_images(tmp_path):
    for suffix in ("eps", "pdf", "tga"):
        drawn_image(1).save(tmp_path / f"x.{suffix}")
        (tmp_path / f"x.{suffix}").rename(tmp_path / "x.png")
        with pytest.raises(ValueError, match="is not an image that can be read"):
            read_image(tmp_path / "x.png")
    for suffix in SUFFIXES:
        drawn_image(1).save(tmp_path / f"x{suffix}")
        assert read_image(tmp_path / f"x{suffix}").size == Image.open(tmp_path / f"x{suffix}").size


@pytest.mark.slow
def test_a_fault_on_the_way_tells_what_was_done(folder, model, capsys):
    many(folder, 9)
    Path("out/08.png").mkdir(parents=True)  # the output of the last one cannot be written
    words = ("apply", "a.png", "a2.png", "many", "-o", "out", "--model", str(model))
    code, out, err = run(capsys, *words, "--json")
    told = json.loads(out)
    assert code == 1 and f"lorweb: {told['error']}\n" == err and "Is a directory" in err
    assert [row["output"] for row in told["written"]] == [f"out/{seed:02}.png" for seed in range(8)]
    assert all(Path(row["output"]).is_file() and row["facts"]["mix"] for row in told["written"])


@pytest.mark.slow
def test_ctrl_c_tells_what_was_done(folder, model):
    many(folder, 24)
    words = ["apply", "a.png", "a2.png", "many", "-o", "out", "--model", str(model), "--steps", "80", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lorweb", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no threads here
    )
    deadline = time.monotonic() + 300
    while not list(folder.glob("out/*.png")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    told = json.loads(out)
    assert process.returncode == 130 and err.decode().splitlines()[-1] == f"lorweb: {told['error']}"
    written, there = {row["output"] for row in told["written"]}, {str(path) for path in Path("out").iterdir()}
    assert 0 < len(written) < 24 and written <= there and len(there - written) <= 1, "one may be written and not told"
