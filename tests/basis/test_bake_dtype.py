"""A LoRA in 16 bits: rounded once, its error measured after rounding; the dense product in float64 is the oracle."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lorweb.basis import basis_layers, mix
from lorweb.basis.fold import bake
from tests.basis.cases import config, queries, trained
from tests.tiny import tiny_transformer

SETTINGS = config()


@pytest.fixture
def model() -> Any:
    made = tiny_transformer(0)
    trained(made, SETTINGS)
    return made


def dense(baked: Any, name: str) -> torch.Tensor:
    A, B = (baked.state_dict[f"transformer.{name}.lora_{side}.weight"].double() for side in "AB")
    return B @ A


@pytest.mark.parametrize("rank", [None, 3], ids=["exact", "rank 3"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_error_is_that_of_the_factors_as_they_are_written(model: Any, dtype: torch.dtype, rank: int | None) -> None:
    query_BQ = queries(1, SETTINGS)
    whole, half = bake(model, query_BQ), bake(model, query_BQ, rank, dtype=dtype)
    lost = norm = 0.0
    for name in basis_layers(model):
        dW = dense(whole, name)
        here, size = float((dW - dense(half, name)).square().sum()), float(dW.square().sum())
        assert half.errors[name] == pytest.approx((here / size) ** 0.5, rel=1e-4)
        lost, norm = lost + here, norm + size
    assert half.total_error == pytest.approx((lost / norm) ** 0.5, rel=1e-4)
    assert half.total_error > 0.5 * torch.finfo(dtype).eps / 4
    assert whole.total_error == 0.0
    assert {value.dtype for value in half.state_dict.values()} == {dtype}


def test_it_rounds_once_and_the_file_is_about_half(model: Any, tmp_path: Path) -> None:
    whole, half = (bake(model, queries(1, SETTINGS), dtype=dtype) for dtype in (torch.float32, torch.float16))
    assert (half.rank, half.mix) == (whole.rank, whole.mix)
    assert all(torch.equal(half.state_dict[key], value.half()) for key, value in whole.state_dict.items())
    for name, baked in (("half", half), ("whole", whole)):
        baked.save(tmp_path / f"{name}.safetensors")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.7 * sizes[1]


@pytest.mark.parametrize("sign", [1, -1])
def test_what_the_dtype_cannot_hold_is_refused(model: Any, sign: int) -> None:
    mix_BLN = mix(model, queries(1, SETTINGS)).detach()
    layer = next(iter(basis_layers(model).values()))
    layer.B.data[0, 0] = sign * 1e6 / float(mix_BLN[0, 0, 0])
    with pytest.raises(
        ValueError, match=r"norm1.linear\.B reaches 1e\+06, which is not finite as torch.float16; use bfloat16"
    ):
        bake(model, mix_BLN, dtype=torch.float16)
    bake(model, mix_BLN, dtype=torch.bfloat16)
