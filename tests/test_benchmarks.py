"""The benchmarks run, their contestants compute the same, and the table in the README is what was measured.

Nothing here looks at a time: only at what is compared, and at how numbers become rows.
"""

import json
import re
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from lorweb.basis import analogy, basis_layers, router_of
from lorweb.basis.fold import folded
from tests.benchmark_cases import FOLDER, module, put_on_the_path

README, RESULTS = FOLDER / "README.md", sorted((FOLDER / "results").glob("*.json"))
KEYS = {"name", "rival", "ratio", "low", "high", "target", "met", "unit", "n", "ms", "rival_ms", "machine", "command"}
EINSUMS = ("einsum in order", "einsum best path")
SMOKE = {
    "adapter": ["--width", "32", "--tokens", "6", "--batch", "1", "2", "--loras", "2", "4", "--seconds", "0"],
    "block": ["--width", "32", "--tokens", "6", "--seconds", "0"],
    "denoise": ["--heads", "1", "--tokens", "8", "--steps", "2", "--rounds", "1"],
}


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_the_path(monkeypatch)


def test_every_script_has_a_smoke_run_and_a_line_in_the_readme():
    scripts = {path.stem for path in FOLDER.glob("[a-z]*.py")}
    assert set(SMOKE) <= scripts
    assert {path.stem for path in RESULTS} <= scripts
    assert all(f"`{script}.py`" in README.read_text(encoding="utf-8") for script in scripts)


@pytest.mark.slow
@pytest.mark.parametrize("script", SMOKE)
def test_rows_are_complete_and_consistent(script, tmp_path):
    path = tmp_path / "made" / "rows.json"
    module(script).main([*SMOKE[script], "--json", str(path)])
    rows = json.loads(path.read_text())
    assert len(rows) >= 7
    assert len({(row["name"], row["rival"]) for row in rows}) == len(rows)
    for row in rows:
        assert set(row) - {"profile", "added_us"} == KEYS, row
        assert row["low"] <= row["ratio"] <= row["high"]
        assert row["met"] == (row["ratio"] <= row["target"])
        assert row["unit"].startswith("time, ") and row["unit"].endswith(f" / {row['rival']}")
        assert (row["n"] >= 1 and row["ms"] > 0) or "added" in row["name"]
    missed = [row for row in rows if "profile" in row]
    assert all(not row["met"] and len(row["profile"]) == 2 for row in missed)


def test_the_layer_is_compared_with_every_rival_in_every_phase(tmp_path):
    path = tmp_path / "rows.json"
    module("block").main([*SMOKE["block"], "--json", str(path)])
    found = {(re.sub(r", \d+ tokens.*", "", row["name"]), row["rival"]) for row in json.loads(path.read_text())}
    phases = [f"q, k, v forward + backward, x {having} gradient" for having in ("with", "without")]
    expected = {(phase, rival) for phase in ["q, k, v forward", *phases] for rival in ("peft", *EINSUMS)}
    expected |= {(f"{phase}, layer alone", "peft") for phase in phases}
    expected |= {("q, k, v forward", "bare"), ("q, k, v forward, folded", "bare")}
    assert found == expected


@pytest.mark.slow
def test_files_are_counted_against_the_least_number_of_them(tmp_path):
    path = tmp_path / "rows.json"
    module("dvc_shards").main(["--megabytes", "1", "--files", "1", "16", "--rounds", "1", "--json", str(path)])
    rows = json.loads(path.read_text())
    operations = {"add", "push", "status", "checkout", "fetch", "update"}
    assert {(row["operation"], row["files"]) for row in rows} == {(name, n) for name in operations for n in (1, 16)}
    sent = {row["files"]: row["sent"] for row in rows}
    assert 2**20 <= sent[1] < 2**20 + 4096 and 2**16 <= sent[16] < 2**16 + 4096, "a change sends its own file"


@pytest.mark.slow
def test_a_script_runs_as_a_command(tmp_path):
    path = tmp_path / "rows.json"
    command = [sys.executable, str(FOLDER / "block.py"), *SMOKE["block"], "--threads", "1", f"--json={path}"]
    again = "python benchmarks/block.py --threads 1 --width 32 --tokens 6 --batch 1 --seconds 0.0"
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads(path.read_text())
    assert "1 threads" in done.stdout and rows[0]["machine"] in done.stdout
    assert rows[0]["command"] == again


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    return torch.stack(model(x))


@pytest.mark.parametrize("tokens", [5, 40], ids=["few tokens: e meets A x", "many tokens: e meets B"])
def test_the_contestants_compute_the_same_update(tokens):
    rivals = module("_rivals")
    torch.manual_seed(0)
    made = rivals.shared_input(16, 3, rivals.PAPER)
    x_BSI = torch.randn(2, tokens, 16)
    for model in (made.in_order, made.best_path):
        rivals.give_query(model, made.query_BQ.expand(2, -1))
    with torch.no_grad(), analogy(made.ours, made.query_BQ) as e_BLN:
        ours = outputs(made.ours, x_BSI)
        assert (ours - outputs(made.bare, x_BSI)).abs().max() > 1e-2, "the update is too small to see"
        for model in (made.peft, made.in_order, made.best_path):
            assert_close(outputs(model, x_BSI), ours, atol=1e-6, rtol=1e-5)
        for model in (made.in_order, made.best_path):
            rivals.give_mix(model, e_BLN.expand(2, -1, -1) * 2)
            assert_close(outputs(model, x_BSI) - outputs(made.bare, x_BSI), 2 * (ours - outputs(made.bare, x_BSI)))
    with torch.no_grad(), folded(made.ours, made.query_BQ):
        assert_close(outputs(made.ours, x_BSI), ours, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("path", ["in_order", "best_path"])
def test_the_published_way_has_our_gradients(path):
    rivals = module("_rivals")
    torch.manual_seed(0)
    made = rivals.shared_input(16, 2, rivals.PAPER)
    published, query_BQ = getattr(made, path), torch.randn(3, rivals.PAPER.query_dim)
    rivals.give_query(published, query_BQ)
    x_BSI = torch.randn(3, 7, 16)
    with analogy(made.ours, query_BQ):
        outputs(made.ours, x_BSI).square().sum().backward()
    outputs(published, x_BSI).square().sum().backward()
    router, N = router_of(made.ours), rivals.PAPER.n_loras
    layers = list(basis_layers(made.ours).values())
    assert len(layers) == len(published.transformer_blocks) == 2
    for index, (layer, theirs) in enumerate(zip(layers, published.transformer_blocks, strict=True)):
        assert_close(theirs.A_NIR.grad.transpose(1, 2).flatten(0, 1), layer.A.grad)
        assert_close(theirs.B_NRO.grad.flatten(0, 1).T, layer.B.grad)
        assert_close(theirs.keys_ND.grad, router.keys.grad[index], atol=1e-6, rtol=1e-4)
        assert_close(theirs.projection_DQ.grad, router.projection.grad[index], atol=1e-6, rtol=1e-4)
        assert theirs.keys_ND.grad.abs().max() > 0 and len(theirs.keys_ND) == N


def test_every_denoising_run_reaches_the_same_latents():
    denoise, rivals = module("denoise"), module("_rivals")
    torch.manual_seed(0)
    made = rivals.field(denoise.transformer(1), rivals.PAPER)
    with torch.no_grad():
        ends = {name: list(run())[-1] for name, run in denoise.contestants(made, tokens=8, steps=3).items()}
    base, live = ends.pop("base"), ends.pop("live mix")
    assert (base - live).abs().max() > 1e-2, "the update is too small to see"
    assert set(ends) == {"folded", "peft", "published in order", "published best path"}
    for name, latents in ends.items():
        assert_close(latents, live, atol=1e-4, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_targets_scale_with_the_flops():
    layer, rivals = module("_layer"), module("_rivals")
    rounds = module("_measure").Rounds(1, 1, 0.0)
    cases = {
        n: layer.Case("x", 1, 512, 3072, 1, rivals.PAPER.model_copy(update={"n_loras": n}), rounds) for n in (32, 64)
    }
    assert cases[32].allowance == 1.2
    assert cases[64].allowance == pytest.approx(1.2 * (1 + 2 / 12) / (1 + 1 / 12), abs=1e-3)
    assert cases[32].in_order_gb == pytest.approx(512 * 32 * 3072 * 4e-9)


def test_the_readme_shows_the_results_as_they_were_measured():
    assert RESULTS, "no results in benchmarks/results"
    rows = [row for path in RESULTS for row in json.loads(path.read_text(encoding="utf-8"))]
    assert len(rows) > 20 and all(row["machine"] and row["command"] for row in rows)
    assert module("_table").markdown(rows) in README.read_text(encoding="utf-8")
    quality = json.loads((FOLDER / "results" / "quality" / "filter.json").read_text(encoding="utf-8"))
    assert module("filter_quality").markdown(quality) in README.read_text(encoding="utf-8")
    stages = json.loads((FOLDER / "results" / "stages" / "stages.json").read_text(encoding="utf-8"))
    assert module("stages").markdown(stages) in README.read_text(encoding="utf-8")
    shards = json.loads((FOLDER / "results" / "dvc" / "shards.json").read_text(encoding="utf-8"))
    assert module("dvc_shards").markdown(shards) in README.read_text(encoding="utf-8")
    for name in ("train_step", "cuda"):
        training = json.loads((FOLDER / "results" / "training" / f"{name}.json").read_text(encoding="utf-8"))
        assert module("train_step").markdown(training) in README.read_text(encoding="utf-8")
    latents = json.loads((FOLDER / "results" / "quality" / "grid_latents.json").read_text(encoding="utf-8"))
    assert module("grid_latents").markdown(latents) in README.read_text(encoding="utf-8")
