"""`lorweb health` and `lorweb plan` as a user meets them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from lorweb.sizes import KONTEXT
from tests.cli_cases import run
from tests.kontext_tiny import drawn_image

ROOT = Path(__file__).parents[1]


def words(text: str) -> str:
    return " ".join(text.split())


def test_health_writes_numbers_and_picture_and_names_the_worst_layers(model, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        (tmp_path / "triples" / str(i)).mkdir(parents=True)
        for seed, name in enumerate(("a", "a2", "b")):
            drawn_image(3 * i + seed).save(tmp_path / "triples" / str(i) / f"{name}.png")
    code, out, _ = run(capsys, "health", str(model), "--triples", "triples", "-o", "found")
    assert code == 0 and out.split()[-2:] == ["found/health.json", "found/health.png"]
    tree = json.loads(Path("found/health.json").read_text(encoding="utf-8"))
    assert tree["queries"] == 4 and len(tree["layers"]) == 20 and Image.open("found/health.png").width > 500
    least = min(tree["layers"], key=lambda name: tree["layers"][name]["update_variation"])
    assert f"{least} 0 0 " in words(out), "no atom is dead: the most static layer comes first"
    assert f"effective_loras {tree['effective_loras']:.4g} LoRAs that one query uses, of 3" in words(out)
    code, _, err = run(capsys, "health", str(model), "-o", "other")
    assert code == 1 and "run the pipeline up to encode" in err and not Path("other").exists()


@pytest.mark.slow
def test_plan_prints_the_paper_to_the_unit_without_a_project(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "plan", "--flux", "-o", "sizes.json")
    assert code == 0 and out.splitlines()[0].strip() == f"494 layers of {KONTEXT}"
    assert "paper: N32 r4 835,051,520 687,341,568 2,023,424 145,686,528 3,340.2 1,670.1 63.2" in words(out)
    assert json.loads(Path("sizes.json").read_text(encoding="utf-8"))["base"] == KONTEXT
    code, _, err = run(capsys, "plan")
    assert code == 1 and "run from the project root" in err


@pytest.mark.slow
def test_plan_takes_base_and_basis_from_the_project(monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    code, out, _ = run(capsys, "plan", "--profile", "paper")
    assert code == 0 and f"494 layers of {KONTEXT}" in words(out) and "profile paper 835,051,520" in words(out)
    code, out, _ = run(capsys, "plan", "--profile", "paper", "--base", "tiny")
    assert code == 0 and "32 layers of tiny" in words(out)
    code, _, err = run(capsys, "plan", "--flux", "--base", "tiny")
    assert code == 1 and "--flux and --base tiny are both given" in err
    code, _, err = run(capsys, "plan", "--base", "nowhere")
    assert code == 1 and "no base at 'nowhere'" in err


@pytest.mark.parametrize("command", ["health", "plan"])
def test_help_has_an_example(command, capsys) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0 and f"Example: lorweb {command}" in words(out)
