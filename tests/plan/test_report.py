"""The whole plan: tokens as the model gets them, disk as files have them, and the command."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from lorweb.kontext.grid import Size
from lorweb.kontext.load import load_base
from lorweb.kontext.tokens import pack, positions
from lorweb.plan import disk
from lorweb.plan.model import read_others
from lorweb.plan.report import Given, make_plan, token_counts
from lorweb.profiles import load_profile
from tests.cli_cases import run
from tests.model_tiny import save_parts
from tests.test_cli_inspect import words

ROOT = Path(__file__).parents[2]
GIVEN = Given("h100", 0.4, None, None)


@pytest.mark.parametrize("quadrant", [32, 64, 512])
def test_tokens_are_those_of_a_packed_grid(quadrant) -> None:
    side = quadrant // disk.CELL
    size = Size(side, side).doubled
    tokens = token_counts(quadrant, 512)
    noisy = pack(torch.zeros(1, disk.LATENT_CHANNELS, size.height, size.width))
    where = positions(size, 512, noisy)
    assert tokens.image == 2 * noisy.shape[1] == len(where.image_2L3) and tokens.joint == tokens.image + 512
    assert disk.latent_values(quadrant) == torch.zeros(16, side, side).numel()
    base = load_base("tiny", torch.float32, "cpu")
    assert (base.cell, base.latent_channels) == (disk.CELL, disk.LATENT_CHANNELS)


def test_the_paper_by_hand() -> None:
    """8,192 image tokens and 512 of text; docs/plan.md works out the rest."""
    plan = make_plan("black-forest-labs/FLUX.1-Kontext-dev", load_profile(ROOT, "paper"), GIVEN)
    assert (plan.tokens.image, plan.tokens.text) == (8192, 512)
    assert (plan.model.trained, plan.model.base_values) == (835_051_520, 11_901_408_320)
    assert (plan.model.adapters, plan.model.router) == (687_341_568, 2_023_424 + 145_686_528)
    assert len(plan.model.blocks) == 57
    variants = 1 + len(load_profile(ROOT, "paper").train.baselines)
    assert plan.hours["all variants"] == pytest.approx(variants * plan.hours["one variant"])


def test_what_else_a_base_has_is_what_its_files_hold(tmp_path) -> None:
    folder = save_parts(tmp_path) / "kontext"
    base, found = load_base(str(folder), torch.float32, "cpu"), read_others(folder)
    sizes = [sum(p.numel() for p in getattr(base.pipeline, n).parameters()) for n in ("vae", "text_encoder")]
    texts = sizes[1] + sum(p.numel() for p in base.pipeline.text_encoder_2.parameters())
    assert found.vae == sizes[0] and found.text == pytest.approx(texts, rel=0.02)  # tied embeddings lie in a file once


def test_training_loads_no_text_encoder(tmp_path) -> None:
    folder = str(save_parts(tmp_path) / "kontext")
    whole, without = (load_base(folder, torch.float32, "cpu", text=text) for text in (True, False))
    assert without.pipeline.text_encoder is None and without.pipeline.text_encoder_2 is None
    shapes = [{n: p.sum() for n, p in b.transformer.named_parameters()} for b in (whole, without)]
    assert shapes[0] == shapes[1] and without.device == whole.device
    with pytest.raises(ValueError, match="loaded without its text encoders"):
        without.text(["a"])


def test_disk_is_what_rows_take(tmp_path) -> None:
    params = load_profile(ROOT, None)
    plan = make_plan("tiny", params, Given("cpu", 0.4, 10, 3))
    assert (plan.rows.images, plan.rows.instructions, plan.rows.bound) == (10, 3, False)
    side = params.encode.quadrant // 8
    latents = save({"latents": torch.zeros(16, side, side).half()})
    assert plan.disk["latents"] == pytest.approx(10 * len(latents), rel=0.05)
    text = load_base("tiny", torch.float32, "cpu").text([""])
    values = text.prompt_BTE.numel() + text.pooled_BP.numel()
    assert plan.disk["text embeddings"] == 3 * 2 * values
    assert plan.disk["checkpoints"] == plan.disk["one checkpoint"] * (params.train.keep_checkpoints + 1)
    assert plan.host["encoded data"] == sum(plan.disk[n] for n in ("latents", "features")) + 3 * 4 * values


def test_most_rows_are_never_fewer_than_there_can_be() -> None:
    params = load_profile(ROOT, None)
    most = disk.most_rows(params)
    tasks = most.instructions - 1
    assert most.bound and tasks > 100
    assert most.images == 2 * tasks * min(params.generate.sources_per_task, params.assemble.max_pairs_per_task)


@pytest.mark.slow
def test_the_command_prints_and_writes_it(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    to = tmp_path / "plan.json"
    code, out, _ = run(capsys, "plan", "--profile", "paper", "--gpu", "a100", "--mfu", "0.3", "-o", str(to))
    assert code == 0
    for said in ("frozen transformer 23.80", "Peak", "steps/s", "To fit a GPU", "one checkpoint", "Hours for"):
        assert said in words(out), said
    tree = json.loads(to.read_text(encoding="utf-8"))
    plan = tree["plan"]
    assert plan["model"]["trained"] == 835_051_520 and [fit["size"] for fit in plan["fits"]] == [24e9, 48e9, 80e9]
    assert plan["memory"]["peak"] == sum(plan["memory"]["phases"][plan["memory"]["peak_phase"]].values())
    assert plan["time"]["seconds"] == pytest.approx(plan["time"]["flops"] / (0.3 * 312e12), rel=0.05)
    code, out, _ = run(capsys, "plan")
    assert code == 0 and "MB per worker, in host memory" in words(out) and "To fit a GPU" not in out


def test_the_command_refuses_what_it_does_not_know(monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    code, _, err = run(capsys, "plan", "--gpu", "h1000")
    assert code == 1 and "nearest: h100" in err
    code, _, err = run(capsys, "plan", "--mfu", "40")
    assert code == 1 and "mfu is 40" in err
