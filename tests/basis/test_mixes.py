"""Algebra of mixes: laws that hold for any coefficients, and numpy as the second reading."""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from lorweb.basis import analogy, mix
from lorweb.basis.mixes import average, interpolate, keep_top, mix_hash, negate, scale, weighted_sum
from tests.basis.cases import config, queries, trained
from tests.tiny import tiny_inputs, tiny_transformer

L, N = 3, 5
FINITE = st.floats(-4, 4, width=32)


def mixes(low: float = -1.0, high: float = 1.0) -> Any:
    """[L, N] as a router gives them, or a sum of such."""
    return arrays(np.float32, (L, N), elements=st.floats(low, high, width=32)).map(torch.from_numpy)


def close(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(mixes(), mixes(), FINITE)
def test_interpolation_meets_both_ends_and_is_a_line(first: Tensor, second: Tensor, t: float) -> None:
    assert torch.equal(interpolate(first, second, 0.0), first)
    assert torch.equal(interpolate(first, second, 1.0), second)
    assert torch.equal(interpolate(first, second, 0.5), average([first, second]))
    expected = (1 - t) * first.numpy().astype(np.float64) + t * second.numpy()
    np.testing.assert_allclose(interpolate(first, second, t).numpy(), expected, rtol=1e-6, atol=1e-7)
    assert close(interpolate(first, second, t), interpolate(second, first, 1 - t))


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(mixes(), min_size=1, max_size=6), st.randoms())
def test_the_average_ignores_order_and_repetition(given_mixes: list[Tensor], random: Any) -> None:
    found = average(given_mixes)
    np.testing.assert_allclose(found.numpy(), np.mean(given_mixes, axis=0, dtype=np.float64), atol=1e-7)
    assert torch.equal(average([given_mixes[0]]), given_mixes[0])
    assert close(average(given_mixes * 2), found)
    shuffled = random.sample(given_mixes, len(given_mixes))
    assert close(average(shuffled), found)
    assert mix_hash(average([given_mixes[0]] * 3)) == mix_hash(given_mixes[0])


@settings(deadline=None)
@given(mixes(), FINITE, FINITE)
def test_scaling_is_multiplication_and_negation_its_own_inverse(e: Tensor, x: float, y: float) -> None:
    assert torch.equal(negate(negate(e)), e)
    assert torch.equal(negate(e), scale(e, -1.0))
    assert torch.equal(scale(e, 1.0), e) and not scale(e, 0.0).any()
    torch.testing.assert_close(scale(scale(e, x), y), scale(e, x * y), rtol=1e-5, atol=1e-6)
    assert not weighted_sum([e, e], [x, -x]).any()


@settings(deadline=None)
@given(mixes(), st.floats(-4, 4))
def test_a_product_is_rounded_once(e: Tensor, factor: float) -> None:
    np.testing.assert_array_equal(scale(e, factor).numpy(), (e.numpy().astype(np.float64) * factor).astype(np.float32))


def test_the_hash_is_of_shape_and_values() -> None:
    values = np.arange(6, dtype=np.float32) / 7
    for shape in ((2, 3), (3, 2), (1, 2, 3)):
        expected = hashlib.sha256(f"{shape}|".encode() + values.tobytes()).hexdigest()[:16]
        assert mix_hash(torch.from_numpy(values).reshape(shape)) == expected, (
            "files are called by it: it must not drift"
        )
    assert mix_hash(torch.tensor([[0.0, 1.0]])) == mix_hash(torch.tensor([[-0.0, 1.0]], dtype=torch.float64))


@pytest.mark.slow
@settings(deadline=None)
@given(mixes(), st.integers(1, N))
def test_keep_top_keeps_the_largest_and_nothing_else(e: Tensor, m: int) -> None:
    kept = keep_top(e, m)
    assert torch.equal(keep_top(e, N), e)
    assert torch.equal(keep_top(kept, m), kept), "once is enough"
    assert torch.equal(keep_top(negate(e), m), negate(kept))
    stays = kept != 0
    assert torch.equal(kept[stays], e[stays]) and (stays.sum(dim=1) <= m).all()
    for row, left in zip(e.abs().numpy(), kept.abs().numpy(), strict=True):
        np.testing.assert_array_equal(np.sort(left)[::-1][:m], np.sort(row)[::-1][:m])


@settings(deadline=None)
@given(mixes(low=0.0), st.integers(1, N))
def test_keep_sum_gives_the_sum_of_every_layer_back(e: Tensor, m: int) -> None:
    e = e / e.sum(dim=1, keepdim=True).clamp(min=1e-3)
    kept, scaled = keep_top(e, m), keep_top(e, m, keep_sum=True)
    torch.testing.assert_close(scaled.sum(dim=1), e.sum(dim=1), rtol=1e-5, atol=1e-6)
    assert torch.equal(scaled != 0, kept != 0)
    torch.testing.assert_close(keep_top(e, N, keep_sum=True), e, rtol=1e-6, atol=1e-7)


@settings(deadline=None)
@given(mixes(), st.integers(1, N))
def test_keep_sum_never_turns_an_edit_around(e: Tensor, m: int) -> None:
    kept = keep_top(e, m)
    try:
        scaled = keep_top(e, m, keep_sum=True)
    except ValueError:
        before, after = e.double().sum(dim=1), kept.double().sum(dim=1)
        assert ((before * after <= 0) | (before / after > 1e30)).any(), "a positive factor would have done"
    else:
        assert (scaled * kept >= 0).all()


def test_of_equal_coefficients_the_first_stays() -> None:
    e = torch.tensor([[0.2, -0.5, 0.5, 0.5]])
    assert keep_top(e, 2).tolist() == [[0.0, -0.5, 0.5, 0.0]]
    assert keep_top(torch.zeros(2, 4), 3, keep_sum=True).tolist() == [[0.0] * 4] * 2


def test_the_sum_comes_back_where_large_coefficients_cancel() -> None:
    """float32 sums of these depend on their order: 2^25 + 1 is 2^25 there."""
    e = torch.tensor([[2.0**25, 1.0, 3.0, -(2.0**25), 1.0]])
    scaled = keep_top(e, 3, keep_sum=True)
    assert scaled[0, 2].item() == 5.0 and scaled[0, 0].item() == -scaled[0, 3].item() == np.float32(2.0**25 * 5 / 3)


def test_inputs_stay_as_they_were_and_outputs_are_float32() -> None:
    e = torch.tensor([[0.25, -0.5, 0.125]], dtype=torch.float64)
    before = e.clone()
    for made in (average([e]), interpolate(e, e, 0.5), scale(e, 2), negate(e), keep_top(e, 1), keep_top(e, 3)):
        assert made.dtype == torch.float32
        made.zero_()
    assert torch.equal(e, before)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: average([]), "there is no mix to add up"),
        (lambda: average([torch.zeros(2, 3), torch.zeros(2, 4)]), r"shapes \[\(2, 3\), \(2, 4\)\] cannot be added"),
        (lambda: interpolate(torch.zeros(2, 3), torch.zeros(3, 3), 0.5), "cannot be added"),
        (lambda: interpolate(torch.zeros(2, 3), torch.zeros(2, 3), float("nan")), "is weighted by nan"),
        (lambda: scale(torch.zeros(2, 3), float("inf")), "is scaled by inf"),
        (
            lambda: keep_top(torch.zeros(2, 3), 0),
            "keep the top 0 of 3 LoRAs is not possible; give a number from 1 to 3",
        ),
        (lambda: keep_top(torch.zeros(2, 3), 4), "keep the top 4 of 3"),
        (lambda: keep_top(torch.tensor([[1.0, 0, 0], [2.0, -2.0, 1.0]]), 2, True), "layer 1 sum to 0"),
        (lambda: keep_top(torch.tensor([[1.0, -0.9, -0.3, -0.2]]), 2, True), r"sum to 0\.1, so that no factor above 0"),
        (lambda: keep_top(torch.tensor([[2.0, -1.0, -1.0]]), 1, True), "the layer's sum 0 back"),
    ],
)
def test_what_has_no_meaning_is_refused(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_the_update_is_linear_in_the_mix() -> None:
    """What gives the algebra its meaning: on one linear layer the update of a sum is the sum of the updates."""
    model, variant = tiny_transformer(0), config()
    trained(model, variant)
    one, two = mix(model, queries(2, variant)).detach()
    layer = model.transformer_blocks[0].attn.to_q
    x = torch.randn(1, 4, layer.in_features, generator=torch.Generator().manual_seed(0))

    def update(e_LN: Tensor) -> Tensor:
        with torch.no_grad(), analogy(model, mix=e_LN):
            return layer(x) - layer.base(x)

    expected = 0.7 * update(one) - 0.3 * update(two)
    torch.testing.assert_close(update(weighted_sum([one, two], [0.7, -0.3])), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad(), analogy(model, mix=negate(one)):
        opposite = model(**tiny_inputs(1, 8)).sample
    with torch.no_grad(), analogy(model, mix=one, strength=-1.0):
        torch.testing.assert_close(model(**tiny_inputs(1, 8)).sample, opposite)


def test_what_leaves_float32_is_refused() -> None:
    e_LN = torch.ones(2, 3)
    for call in (lambda: scale(e_LN, 1e39), lambda: weighted_sum([e_LN, e_LN], [1e39, 1.0])):
        with pytest.raises(ValueError, match="leave the range of float32"):
            call()
