"""Rectified flow: its identities, the published reference points, and draws that depend on their ids alone."""

import math
from typing import get_args

import numpy as np
import pytest
import torch

from lorweb.config import Train
from lorweb.kontext import flow

# (timestep, weight) that the authors' training uses in effect
BELL = [(1000, 0.0), (900, 0.480), (750, 1.108), (500, 1.580), (250, 1.108), (100, 0.480), (1, 0.005)]
TABLE = torch.arange(1000, 0, -1) / 1000


@pytest.mark.parametrize(("timestep", "weight"), BELL)
def test_the_bell_passes_through_the_reference_points(timestep: int, weight: float) -> None:
    assert flow.weigh("bell", torch.tensor([timestep / 1000])).item() == pytest.approx(weight, abs=6e-4)


@pytest.mark.parametrize("kind", get_args(flow.Weighting))
def test_weights_have_mean_one_over_the_table(kind: flow.Weighting) -> None:
    assert flow.weigh(kind, TABLE).mean().item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("kind", get_args(flow.Weighting))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_have_the_dtype_of_their_timesteps(kind: flow.Weighting, dtype: torch.dtype) -> None:
    assert flow.weigh(kind, TABLE.to(dtype)).dtype == dtype


def test_plain_weights_weigh_nothing() -> None:
    assert torch.equal(flow.weigh("plain", TABLE), torch.ones(1000))


def test_logit_normal_weights_are_the_density_of_a_squashed_normal() -> None:
    t = np.arange(1, 1000) / 1000
    expected = np.exp(-0.5 * np.log(t / (1 - t)) ** 2) / (t * (1 - t) * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(flow.weigh("logit_normal", torch.from_numpy(t)), expected, rtol=1e-9, atol=1e-12)
    ends = flow.weigh("logit_normal", torch.tensor([0.0, 1.0]))
    assert ends.tolist() == [0.0, 0.0], "no division of zero by zero"


def test_weighing_uniform_timesteps_is_drawing_logit_normal_ones() -> None:
    """Both estimate the same expected loss; here of t^2, whose mean is integrated by numpy."""
    x = np.linspace(-9, 9, 20001)
    truth = np.trapezoid(np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi) / (1 + np.exp(-x)) ** 2, x)
    weighed = (flow.weigh("logit_normal", TABLE.double()) * TABLE.double() ** 2).mean().item()
    drawn = flow.draw_timesteps("logit_normal", 2, 0, list(range(4000)))
    assert weighed == pytest.approx(truth, abs=1e-3)
    assert (drawn**2).mean().item() == pytest.approx(truth, abs=0.015)


def test_z_t_runs_from_data_to_noise_along_the_target() -> None:
    x0, x1 = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    assert torch.equal(flow.add_noise(x0, x1, torch.zeros(3)), x0)
    assert torch.equal(flow.add_noise(x0, x1, torch.ones(3)), x1)
    t = torch.tensor([0.1, 0.5, 0.9])
    z = flow.add_noise(x0, x1, t)
    for row in range(3):
        np.testing.assert_allclose(z[row], (1 - t[row]) * x0[row] + t[row] * x1[row], rtol=1e-6)
    torch.testing.assert_close(z - t[:, None, None] * (x1 - x0), x0)  # one Euler step of the true velocity lands on x0


def test_the_loss_is_the_weighted_mean_square_against_noise_minus_data() -> None:
    v, x0, x1 = (torch.randn(4, 5, 6) for _ in range(3))
    weight = torch.tensor([0.0, 1.0, 2.0, 0.5])
    rows = zip(weight.numpy(), v.numpy(), x0.numpy(), x1.numpy(), strict=True)
    expected = np.mean([w * ((row - (noise - data)) ** 2).mean() for w, row, data, noise in rows])
    assert flow.flow_loss(v, x0, x1, weight).item() == pytest.approx(expected, rel=1e-5)
    assert flow.flow_loss(x1 - x0, x0, x1, weight).item() == 0


def test_dtypes_follow_the_latents_and_losses_are_float32() -> None:
    """The timesteps and weights of a batch are float32 whatever the latents are, or float64 from a table of numpy."""
    x, t = torch.randn(3, 4), torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)
    for dtype in (torch.bfloat16, torch.float32):
        z = flow.add_noise(x.to(dtype), 2 * x.to(dtype), t)
        assert z.dtype == dtype
        torch.testing.assert_close(z.float(), (1 + t[:, None].float()) * x, rtol=0.02, atol=0.02)
        assert flow.flow_loss(z, z, z + 1, t).dtype == torch.float32


def test_losses_of_16_bit_tensors_are_made_in_float32() -> None:
    v, x0, x1 = (torch.randn(4, 5, 6).bfloat16() for _ in range(3))
    rows, data, noise = (value.double().numpy().reshape(4, -1) for value in (v, x0, x1))
    found = flow.sample_losses(v, x0, x1)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, ((rows - (noise - data)) ** 2).mean(1), rtol=1e-5)


def test_a_weight_of_the_wrong_batch_is_refused() -> None:
    x = torch.zeros(4, 2)
    with pytest.raises(AssertionError):
        flow.flow_loss(x, x, x, torch.ones(1))
    with pytest.raises(AssertionError):
        flow.add_noise(x, x, torch.ones(1))


def test_draws_depend_on_seed_step_and_index_alone() -> None:
    together = flow.draw_noise((2, 3), seed=7, step=5, indices=[0, 1, 2, 3])
    assert torch.equal(flow.draw_noise((2, 3), 7, 5, [2]), together[2:3]), "another batch split"
    assert len({tuple(row.flatten().tolist()) for row in together}) == 4
    for other in (flow.draw_noise((2, 3), 8, 5, [0]), flow.draw_noise((2, 3), 7, 6, [0])):
        assert not torch.equal(other, together[:1])
    state = torch.random.get_rng_state()
    flow.draw_timesteps("uniform", 0, 0, [0])
    assert torch.equal(torch.random.get_rng_state(), state), "global randomness is not touched"


def test_draws_are_golden() -> None:
    """Checkpoints are resumed by later versions: the same ids must keep the same numbers."""
    assert flow.draw_timesteps("uniform", 0, 0, [0, 1, 2]).tolist() == pytest.approx(GOLDEN_T)
    assert flow.draw_noise((3,), 0, 0, [0])[0].tolist() == pytest.approx(GOLDEN_X, abs=1e-5)


GOLDEN_T = [0.727, 0.789, 0.423]
GOLDEN_X = [-0.1727966, -0.0684612, 1.9185399]


def test_uniform_timesteps_cover_the_table_evenly() -> None:
    t = flow.draw_timesteps("uniform", 1, 0, list(range(4000)))
    assert t.min() >= 1 / 1000 and t.max() <= 1 and torch.allclose(t * 1000, (t * 1000).round(), atol=1e-4)
    counts = np.histogram(t.numpy(), bins=10, range=(0, 1))[0]
    assert counts.sum() == 4000 and counts.min() > 300


def test_logit_normal_timesteps_are_the_sigmoid_of_a_normal() -> None:
    t = flow.draw_timesteps("logit_normal", 1, 0, list(range(4000)))
    logits = torch.log(t / (1 - t))
    assert abs(logits.mean().item()) < 0.06 and abs(logits.std().item() - 1) < 0.05


def test_unknown_kinds_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="timesteps is 'cosine'"):
        flow.draw_timesteps("cosine", 0, 0, [0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weighting is 'weighted'; use 'plain', 'bell' or"):
        flow.weigh("weighted", torch.ones(1))  # type: ignore[arg-type]


def test_the_config_offers_what_the_flow_can() -> None:
    fields = Train.model_fields
    assert get_args(fields["timesteps"].annotation) == get_args(flow.Timesteps)
    assert get_args(fields["weighting"].annotation) == get_args(flow.Weighting)


def test_the_constant_of_the_bell_is_the_one_that_makes_the_mean_one() -> None:
    i = np.arange(1000)
    raw = np.exp(-2 * ((i - 500) / 1000) ** 2) - math.exp(-0.5)
    assert 1 / raw.mean() == pytest.approx(4.0146, rel=1e-4)
