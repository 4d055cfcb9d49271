"""bfloat16: the base, and on CUDA the adapters' products; what is trained and added up stays float32."""

import pytest
import torch

from lorweb.training.dataset import Triple
from lorweb.training.kernels import use_repeatable_kernels
from lorweb.training.step import Noised, predict, take_step
from tests.training.made import make_run, train_section, write_data


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def run_in(folders, dtype, device="cpu"):
    precision = "bfloat16" if dtype == torch.bfloat16 else "float32"
    return make_run(folders, train_section(precision=precision), device=device)


def all_float32(run):
    moments = [value for slots in run.optimizer.state.values() for value in slots.values()]
    kept = [*run.variant.parameters.values(), *(p.grad for p in run.variant.parameters.values()), *moments]
    return len(kept) > 50 and all(value.dtype == torch.float32 for value in kept)


def test_a_bfloat16_base_trains_float32_adapters_on_the_cpu(folders):
    """There is no autocast on a CPU: the adapters multiply in float32."""
    half, full = run_in(folders, torch.bfloat16), run_in(folders, torch.float32)
    seen = []
    layer = next(module for module in half.variant.transformer.modules() if hasattr(module, "e_BK"))
    layer.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    for step in range(3):
        assert take_step(half, step).loss == pytest.approx(take_step(full, step).loss, rel=0.05)
    assert seen == [False] * 3 and all_float32(half)


def test_autocast_products_of_the_adapters_are_close_and_their_gradients_float32(folders):
    """What CUDA does, by the CPU's own autocast: a step's forward and backward, against float32."""
    gradients = {}
    for autocast in (False, True):
        run = run_in(folders, torch.bfloat16 if autocast else torch.float32)
        take_step(run, 0)  # B is no longer 0
        run.optimizer.zero_grad()
        drawn = run.sampler.batch(1)
        batch = run.encoded.grid_batch([Triple(d.exemplar, d.query, d.instruction) for d in drawn])
        noised = Noised(torch.ones_like(batch.x0_BCHW), torch.full([len(drawn)], 0.5))
        with run.variant.conditioned(batch.query_BQ), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            predict(run.variant, batch, noised, 1.0).float().square().mean().backward()
        gradients[autocast] = {name: p.grad for name, p in run.variant.parameters.items()}
        assert all(gradient.dtype == torch.float32 for gradient in gradients[autocast].values())
    one, other = (torch.cat([g.flatten() for g in gradients[key].values()]) for key in (False, True))
    assert float((one - other).norm() / one.norm()) < 0.1 and not torch.equal(one, other)


@pytest.mark.gpu
def test_on_cuda_the_adapters_multiply_in_bfloat16(folders):
    use_repeatable_kernels()
    half, full = run_in(folders, torch.bfloat16, "cuda"), run_in(folders, torch.float32, "cuda")
    seen = []
    layer = next(module for module in half.variant.transformer.modules() if hasattr(module, "e_BK"))
    layer.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cuda")))
    for step in range(3):
        assert take_step(half, step).loss == pytest.approx(take_step(full, step).loss, rel=0.05)
    assert seen == [True] * 3 and all_float32(half)
