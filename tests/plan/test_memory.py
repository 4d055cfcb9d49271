"""The formulas of memory against counted tensors of real steps on models small enough to be quick."""

import pytest
import torch
from torch.nn import functional

from lorweb.plan import setting as setting_module
from lorweb.plan.memory import Memory, memory
from lorweb.plan.model import Trained
from lorweb.plan.setting import read_setting
from lorweb.plan.state import moment_bytes
from lorweb.training import step
from tests.plan.counted import Shape, count, kept_by_plan, make_run, off, planned, section
from tests.training.round_trip import optimizer_section

pytestmark = pytest.mark.slow

RESTING = ("base", "adapters", "router", "moments", "average")
SMALL = Shape(width=128, doubles=2, singles=4, quadrant=12, text=32)
LONG = Shape(width=64, doubles=1, singles=2, quadrant=20, text=8)


def assert_agrees(plan: Memory, found: dict[str, int], most: float) -> None:
    for name in RESTING:
        assert plan.phases["update"][name] == pytest.approx(found[name], rel=0.01), name
    assert plan.phases["update"]["gradients"] == found["gradients"]
    for phase in ("backward", "update"):
        assert off(plan.total(phase), found[phase]) < most, phase


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        (SMALL, {"batch_size": 2}),
        (SMALL, {"batch_size": 1, "ema": 0.9}),
        (SMALL, {"batch_size": 2, "gradient_checkpointing": True}),
        (SMALL, {"batch_size": 4, "accumulate": 4, "gradient_checkpointing": True}),
        (SMALL, {"batch_size": 2, "gradient_checkpointing": True, "optimizer": optimizer_section("prodigy")}),
        (LONG, {"batch_size": 3, "optimizer": optimizer_section("adamw")}),
        (LONG, {"batch_size": 3, "accumulate": 2}),
        (LONG, {"batch_size": 3, "gradient_checkpointing": True}),
    ],
    ids=str,
)
def test_the_plan_is_what_a_step_takes(tmp_path, shape, changes) -> None:
    config = section(**changes)
    model, plan = planned(shape, config)
    found = count(make_run(shape, config, "cpu", tmp_path))
    assert found["backward"] > 2 * found["gradients"] and found["kept"] > 100_000
    assert_agrees(plan, found, 0.06)
    assert off(kept_by_plan(shape, config, model), found["kept"]) < 0.05


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("cast", [("layer_norm",), ("layer_norm", "rms_norm")], ids=len)
def test_the_formulas_of_autocast(tmp_path, monkeypatch, cast, checkpointing) -> None:
    """CUDA's autocast on a CPU: the CPU's own, which casts no norm, with norms that cast as CUDA's list says."""
    monkeypatch.setattr(setting_module, "RMS_IN_FLOAT32", "rms_norm" in cast)
    for name in cast:
        monkeypatch.setattr(functional, name, _in_float32(getattr(functional, name)))
    monkeypatch.setattr(step, "_autocast", lambda like: torch.autocast("cpu", torch.bfloat16))
    config = section(
        batch_size=2, precision="bfloat16", gpus_per_worker=1, gradient_checkpointing=checkpointing, accumulate=1
    )
    model, plan = planned(SMALL, config)
    found = count(make_run(SMALL, config, "cpu", tmp_path))
    assert_agrees(plan, found, 0.08)
    # the CPU's own RMSNorm keeps a little more in bfloat16 than CUDA's: docs/plan.md has the figures of a GPU
    assert off(kept_by_plan(SMALL, config, model), found["kept"]) < 0.08


def _in_float32(function):
    def cast(value):
        return value.float() if isinstance(value, torch.Tensor) else value

    def run(*args, **kwargs):
        return function(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})

    return run


def test_eight_bits_are_counted_tensor_by_tensor() -> None:
    """By hand: two codes a value, two float32 scales for 256 values; small and odd tensors stay float32."""
    large, small, odd = (Trained(size, False) for size in (51_200, 4_000, 5_000))
    assert moment_bytes("adamw_8bit", [large]) == 2 * 51_200 + 2 * 4 * 200
    assert moment_bytes("adamw_8bit", [small, odd]) == 8 * 9_000
    assert moment_bytes("adamw_8bit_bitsandbytes", [odd]) == 2 * 5_000 + 2 * 4 * 20
    assert moment_bytes("adamw_fused", [large, small]) == 8 * 55_200


def test_switches_take_memory_where_they_say() -> None:
    def parts(**changes) -> Memory:
        return planned(SMALL, section(batch_size=8, **changes))[1]

    plain, kept = parts(), parts(gradient_checkpointing=True)
    assert kept.peak < plain.peak and kept.phases["update"] == plain.phases["update"]
    halves = parts(accumulate=2)
    assert 2 * halves.phases["forward"]["activations"] == plain.phases["forward"]["activations"]
    assert halves.phases["forward"]["gradients"] > 0 == plain.phases["forward"]["gradients"]
    assert parts(workers=2).phases["forward"]["activations"] == halves.phases["forward"]["activations"]
    assert parts(async_checkpoints=True).host["checkpoints in flight"] > plain.host["checkpoints in flight"]


def test_what_is_shared_out_and_quantised_shrinks() -> None:
    from dataclasses import replace

    config = section(batch_size=8, workers=4, gpus_per_worker=1, precision="bfloat16")
    model, plain = planned(SMALL, config)
    setting = read_setting(config)

    def resting(**changes) -> dict[str, int]:
        return dict(memory(model, replace(setting, **changes), SMALL.tokens).phases["update"])

    before = plain.phases["update"]
    zero1, zero2 = resting(sharding="zero1"), resting(sharding="zero2")
    assert 0.25 <= zero1["moments"] / before["moments"] < 0.27 and zero1["gradients"] == before["gradients"]
    assert zero2["moments"] == zero1["moments"] and zero2["gradients"] < 0.4 * before["gradients"]
    assert resting(shard_base=True)["base"] < 0.9 * before["base"]
    linears = sum(block.values for block in model.blocks)
    assert before["base"] - resting(base_weights="int8")["base"] == pytest.approx(linears, rel=0.02)
    assert before["base"] - resting(base_weights="nf4")["base"] == pytest.approx(1.484 * linears, rel=0.01)
    offloaded = memory(model, replace(setting, offload_activations=True), SMALL.tokens)
    assert offloaded.peak < plain.peak
    assert offloaded.host["activations"] == plain.phases["forward"]["activations"]
