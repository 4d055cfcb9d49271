"""The same at a size where rounding and fixed costs no longer count: more than 1 GB of tensors; and on CUDA."""

import pytest
import torch

from tests.plan.counted import Shape, count, kept_by_plan, make_run, off, planned, section, take_step

LARGE = Shape(width=1024, doubles=2, singles=4, quadrant=12, text=64)
BASIS = {"n_loras": 32, "rank": 4, "key_dim": 128, "heads": 1, "activation": "softmax", "reduce": "mean"}
BASIS |= {"projection": "linear", "internal": None, "targets": ["transformer_blocks.*", "single_transformer_blocks.*"]}


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_more_than_a_gigabyte(tmp_path, checkpointing) -> None:
    config = section(basis=BASIS, batch_size=2, gradient_checkpointing=checkpointing)
    model, plan = planned(LARGE, config)
    found = count(make_run(LARGE, config, "cpu", tmp_path))
    print({name: f"{size / 1e6:.1f} MB" for name, size in found.items()}, f"plan {plan.peak / 1e6:.1f} MB")
    assert max(found["backward"], found["update"]) > 1e9
    for name in ("base", "adapters", "router", "moments", "gradients"):
        assert off(plan.phases["update"][name], found[name]) < 0.001, name
    assert off(kept_by_plan(LARGE, config, model), found["kept"]) < 0.05
    for phase in ("backward", "update"):
        assert off(plan.total(phase), found[phase]) < 0.05, phase
    assert off(plan.peak, max(found["backward"], found["update"])) < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_what_cuda_says_it_allocated(tmp_path, precision, checkpointing) -> None:
    shape = Shape(width=2048, doubles=2, singles=6, quadrant=32, text=256)
    config = section(
        basis=BASIS, batch_size=4, gpus_per_worker=1, precision=precision, gradient_checkpointing=checkpointing
    )
    _, plan = planned(shape, config)
    run = make_run(shape, config, "cuda", tmp_path)
    take_step(run, 0)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    take_step(run, 1)
    torch.cuda.synchronize()
    most = torch.cuda.max_memory_allocated()
    print(f"{precision}, checkpointing {checkpointing}: {most / 1e9:.2f} GB, plan {plan.peak / 1e9:.2f} GB")
    assert most > 1e9 and off(plan.peak, most) < 0.15
