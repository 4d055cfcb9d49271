"""Eq. 3 in float32 whatever it is given, first values, and widths that do not fit."""

import math

import numpy as np
import pytest
import torch

from lorweb.basis import add_basis, router_of
from lorweb.basis.router import project
from tests.basis.cases import INTERNAL, config
from tests.tiny import tiny_transformer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_projection_is_made_in_float32(dtype: torch.dtype) -> None:
    """A model that was cast as a whole has its projections in 16 bits: they are read so, but not multiplied so."""
    generator = torch.Generator().manual_seed(0)
    projection_DQ = torch.randn(8, 300, generator=generator).to(dtype)
    query_BQ = torch.randn(5, 300, generator=generator)
    expected = query_BQ.double().numpy() @ projection_DQ.double().numpy().T
    found = project(query_BQ, projection_DQ)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    same = project(query_BQ.to(dtype), None)
    assert same.dtype == torch.float32 and torch.equal(same, query_BQ.to(dtype).float())


@pytest.mark.parametrize("projection", ["linear", "shared"])
def test_first_values_have_the_spread_of_a_linear_and_of_a_normal(projection: str) -> None:
    model = tiny_transformer(0)
    add_basis(model, config(projection=projection, query_dim=25, key_dim=8, n_loras=16), seed=0)
    router = router_of(model)
    bound = 1 / math.sqrt(25)
    values = router.projection.detach().flatten()
    assert float(values.abs().max()) <= bound
    counts = np.histogram(values, bins=4, range=(-bound, bound))[0]
    assert counts.min() > 0.8 * counts.max() if projection == "linear" else counts.min() > 0.5 * counts.max()
    keys = router.keys.detach()
    assert abs(float(keys.mean())) < 0.05 and float(keys.std()) == pytest.approx(1.0, abs=0.05)
    assert float(keys.abs().max()) > 2.5, "normal, not uniform"


def test_layers_narrower_than_the_keys_do_not_fit_without_a_projection() -> None:
    settings = config(**{**INTERNAL, "projection": "none", "key_dim": 128, "targets": ("*.ff.net.2", "*.attn.to_q")})
    with pytest.raises(ValueError, match=r"attn\.to_q asks with its own 32 values.*key_dim must be that width"):
        add_basis(tiny_transformer(0), settings, seed=0)
