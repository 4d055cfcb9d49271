"""The examples of docs/training_baselines.md: parameters are taken, the program runs."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from lorweb.basis import BasisConfig
from lorweb.config import parse_params
from lorweb.kontext.load import load_base
from lorweb.profiles import merge
from lorweb.training.baseline import new_variant

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "training_baselines.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)


@pytest.mark.parametrize("text", SHOWN)
def test_parameters_of_the_guide_are_taken(text):
    assert len(SHOWN) == 4
    shown = yaml.safe_load(text)
    params = parse_params(merge(yaml.safe_load((ROOT / "params.yaml").read_text()), shown), "guide")
    found = params.model_dump(mode="json")
    for section, keys in shown.items():
        assert {key: found[section][key] for key in keys} == keys


def test_the_guide_shows_the_bounds_that_are_set():
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    assert yaml.safe_load(SHOWN[3])["train"]["alarms"] == committed["alarms"]


def test_the_program_of_the_guide_loads_a_baseline(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    basis = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]["basis"]
    basis.pop("internal")
    transformer = load_base("tiny", torch.float32, "cpu").transformer
    variant = new_variant("basis_constant", transformer, BasisConfig(**basis, query_dim=6, query_mode="cat-aa'b"), 0)
    folder = tmp_path / "models" / "baselines" / "basis_constant"
    folder.mkdir(parents=True)
    variant.save(folder, {"steps": "0"})
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    exec(program, {})
    assert capsys.readouterr().out == f"basis_constant {variant.size}\n"
