"""docs/plan.md: its worked example is what the plan says, and its commands run."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel

from lorweb.basis import BasisConfig
from lorweb.plan import setting
from lorweb.plan.devices import DEVICES, device
from lorweb.plan.flops import step_time, work
from lorweb.plan.memory import memory
from lorweb.plan.model import TEXT_OF_KONTEXT, VAE_OF_KONTEXT, Others, read_model
from lorweb.plan.report import token_counts
from lorweb.plan.setting import Setting
from lorweb.sizes import KONTEXT, PAPER, meta_transformer
from tests.cli_cases import run

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/plan.md").read_text(encoding="utf-8")
PAPERS_RUN = Setting(
    cuda=True,
    precision="bfloat16",
    optimizer="adamw_8bit",
    batch_size=6,
    workers=1,
    accumulate=1,
    gradient_checkpointing=True,
    ema=False,
    async_checkpoints=False,
    sharding="none",
    shard_base=False,
    base_weights="full",
    offload_activations=False,
)
TOKENS = token_counts(512, 512)


@pytest.fixture(autouse=True)
def newer_torch(monkeypatch) -> None:
    """The worked example is of m = 4, the measured table of m = 2."""
    monkeypatch.setattr(setting, "RMS_IN_FLOAT32", True)


@pytest.fixture(scope="module")
def model():
    others = Others(VAE_OF_KONTEXT, TEXT_OF_KONTEXT)
    return read_model(meta_transformer(KONTEXT), BasisConfig(**PAPER), others)


def row(start: str) -> float:
    """The last number of the row of the worked table that begins so."""
    (line,) = [line for line in GUIDE.splitlines() if line.startswith(f"| {start}")]
    return float(line.rstrip(" |").rsplit(" ", 1)[1])


@pytest.mark.slow
def test_the_worked_example_is_the_plan(model) -> None:
    plan = memory(model, PAPERS_RUN, TOKENS)
    parts = {name: size / 1e9 for name, size in plan.phases["backward"].items()}
    rows = {"base": "base, 2", "vae": "VAE, 2", "adapters": "LoRAs, 4", "router": "keys and", "moments": "moments, 2"}
    for name, start in (rows | {"workspace": "its worst"}).items():
        assert row(start) == pytest.approx(parts[name], abs=0.006), name
    assert row("inputs of 57") + row("the last block") == pytest.approx(parts["activations"], abs=0.01)
    assert row("inputs of the step") == pytest.approx(parts["inputs"] + parts["casts"], abs=0.006)
    assert row("peak, in") == pytest.approx(plan.peak / 1e9, abs=0.006) and plan.peak_phase == "backward"
    for count, told in ((2, "49.84 GB"), (3, "3 to 44.02"), (6, "6 to 38.19")):
        assert (
            f"{memory(model, replace(PAPERS_RUN, accumulate=count), TOKENS).peak / 1e9:.2f}" in told and told in GUIDE
        )
    whole = memory(model, replace(PAPERS_RUN, gradient_checkpointing=False), TOKENS).phases["forward"]
    assert f"would keep {whole['activations'] / 1e9:.0f} GB" in GUIDE


@pytest.mark.slow
def test_what_was_measured_on_a_gpu_is_near_the_plan(monkeypatch) -> None:
    """The table of the guide: its plans are this plan's, and 15 % is kept."""
    monkeypatch.setattr(setting, "RMS_IN_FLOAT32", False)
    rows = [line.strip("| ").split(" | ") for line in GUIDE.splitlines() if re.match(r"\| \d+ \+ \d+ ", line)]
    assert len(rows) == 6
    for blocks, batch, precision, kept, backward, update, _, utilisation in rows:
        doubles, singles = map(int, blocks.split(" + "))
        with torch.device("meta"):
            empty = FluxTransformer2DModel(num_layers=doubles, num_single_layers=singles, guidance_embeds=True)
        sizes = read_model(empty, BasisConfig(**PAPER), Others(0, 0))
        changes = {"optimizer": "adamw_fused", "precision": precision, "gradient_checkpointing": kept == "on"}
        plan = memory(sizes, replace(PAPERS_RUN, batch_size=int(batch), **changes), TOKENS)
        for phase, told in (("backward", backward), ("update", update)):
            measured, planned = map(float, told.split(" / "))
            assert plan.total(phase) / 1e9 == pytest.approx(planned, abs=0.006)
            assert abs(planned / measured - 1) < 0.03 and 0.2 < float(utilisation) < 0.7


def test_the_worked_time_is_the_plan(model) -> None:
    done = work(model, TOKENS, 6)
    at = step_time(model, PAPERS_RUN, TOKENS, device("h100"), 0.3)
    told = " ".join(GUIDE.split())
    linears = f"linears {done.base / 1e12:.1f}, basis {done.adapters / 1e12:.1f}, attention {done.attention / 1e12:.1f}"
    assert linears in told
    assert f"{done.forward / 1e12:,.0f} TFLOP forward, {done.backward / 1e12:,.0f} backward" in told
    assert f"{at.flops / 1e12:,.0f} TFLOP a step, at 0.3 * 989 TFLOP/s {at.compute:.2f} s" in told


@pytest.mark.slow
def test_every_command_and_device_of_the_guide(tmp_path, monkeypatch, capsys) -> None:
    commands = re.findall(r"^lorweb (plan[^#\n]*)", GUIDE, re.M)
    assert len(commands) == 2 and all(name in GUIDE for name in DEVICES)
    monkeypatch.chdir(ROOT)
    for command in commands:
        words = [str(tmp_path / "plan.json") if word == "plan.json" else word for word in command.split()]
        code, out, err = run(capsys, *words)
        assert code == 0 and "Peak" in out, err
