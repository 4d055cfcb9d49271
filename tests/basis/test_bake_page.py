"""The diffusers example of docs/bake.md runs as it is printed, and draws what `lorweb apply` draws."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lorweb.kontext.load import resolve
from lorweb.kontext.metadata import read_metadata, write_metadata
from tests.basis.elsewhere import run_elsewhere
from tests.cli_cases import pixels, run
from tests.kontext_tiny import TEXT_TOKENS, drawn_image
from tests.model_tiny import save_model, save_parts, save_tiny_clip

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "bake.md"
FLUX, PACKAGED, DRAW = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[:3]
ONE_STEP = 1  # of 255: another order of sums


def baked(parts: Path, side: int, size: float, capsys: pytest.CaptureFixture[str], *settings: str) -> np.ndarray:
    """What `apply` draws, beside a bake in the working folder, of a random model on `parts` with B of this size."""
    model = save_model(parts, Path("model"), size=size)
    write_metadata(model, replace(read_metadata(model), quadrant=side, latents="grid"))
    for seed, name in enumerate(("a", "a2", "b"), start=1):
        drawn_image(seed, side, side).save(f"{name}.png")
    images = ("a.png", "a2.png", "b.png", "--model", str(model))
    assert run(capsys, "bake", *images, "-o", "sepia.safetensors")[0] == 0
    assert run(capsys, "apply", *images, "-o", "live.png", *settings)[0] == 0
    assert run(capsys, "apply", *images, "-o", "base.png", "--strength", "0", *settings)[0] == 0
    live = pixels(Path("live.png"))
    assert np.abs(live - pixels(Path("base.png"))).mean() > 3, "the edit hardly shows"
    return live


def test_on_flux_without_lorweb(tmp_path, monkeypatch, capsys):
    """A FLUX.1-Kontext of random parts stands for the gated one, and a CPU for the GPU."""
    monkeypatch.chdir(tmp_path)
    parts, steps = save_parts(tmp_path / "parts"), re.search(r'"num_inference_steps": (\d+)', FLUX)[1]
    live = baked(parts, 32, 4.0, capsys, "--steps", steps, "--guidance", "2.5")
    here = {
        '"black-forest-labs/FLUX.1-Kontext-dev", 512': f"{str(parts / 'kontext')!r}, 32",
        "torch.bfloat16": "torch.float32",
        '.to("cuda")': "",
        "**settings": f"**settings, max_sequence_length={TEXT_TOKENS}",
    }
    code = FLUX + DRAW
    for printed, meant in here.items():
        assert printed in code
        code = code.replace(printed, meant)
    run_elsewhere(code, tmp_path)
    assert np.abs(pixels(Path("b2.png")) - live).max() <= ONE_STEP


def test_on_the_packaged_base_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parts = tmp_path / "parts"
    save_tiny_clip(parts / "clip")
    (parts / "kontext").symlink_to(resolve("tiny"))
    live = baked(parts, 64, 0.4, capsys, "--steps", "6", "--guidance", "1")
    exec(compile(PACKAGED + DRAW, str(PAGE), "exec"), {})
    assert np.abs(pixels(Path("b2.png")) - live).max() <= ONE_STEP
