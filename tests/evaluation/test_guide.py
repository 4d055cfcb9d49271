"""The Python of docs/evaluation.md: it runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageOps

from tests.kontext_tiny import drawn_image
from tests.model_tiny import save_model, save_parts

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def test_images_are_measured_without_a_stage(tmp_path, monkeypatch, capsys):
    (block,) = [block for block in BLOCKS if "AnalogyPipeline" in block]
    save_model(save_parts(tmp_path / "parts"), tmp_path / "models" / "candidate")
    monkeypatch.chdir(tmp_path)
    a, b = drawn_image(0, 48, 48), drawn_image(1, 48, 48)
    for name, image in (("a", a), ("a2", ImageOps.invert(a)), ("b", b), ("b2", ImageOps.invert(b))):
        image.save(f"{name}.png")
    exec(block, {})
    (mine, copied) = (line.split() for line in capsys.readouterr().out.splitlines())
    assert (mine[0], copied[0]) == ("mine", "copy")
    difference = np.asarray(b) / 255 - np.asarray(ImageOps.invert(b)) / 255
    assert float(copied[1]) == pytest.approx(np.square(difference).mean()) and mine[1:] != copied[1:]
