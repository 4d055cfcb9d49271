"""Setting the analogy: rows, nesting, exceptions, gradients, checkpointing, compilation."""

import gc
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lorweb.basis import add_basis, analogy, mix, router_of
from tests.basis.cases import config, gradients, queries, trained
from tests.tiny import tiny_inputs, tiny_transformer

SETTINGS = config()


@pytest.fixture
def model() -> nn.Module:
    made = tiny_transformer(0)
    trained(made, SETTINGS)
    return made


def test_each_row_follows_its_own_analogy(model: nn.Module) -> None:
    inputs, query_BQ = tiny_inputs(3, 8), queries(3, SETTINGS)
    with torch.no_grad(), analogy(model, query_BQ):
        together = model(**inputs).sample
    for row in range(3):
        one = {k: v if k.endswith("ids") else v[row : row + 1] for k, v in inputs.items()}
        with torch.no_grad(), analogy(model, query_BQ[row]):
            torch.testing.assert_close(model(**one).sample[0], together[row], rtol=1e-4, atol=1e-5)
        with torch.no_grad(), analogy(model, query_BQ[(row + 1) % 3]):
            assert not torch.allclose(model(**one).sample[0], together[row], atol=1e-3), "the analogy has no effect"


def test_rows_repeat_as_guidance_repeats_latents(model: nn.Module) -> None:
    inputs, query_BQ = tiny_inputs(2, 8), queries(2, SETTINGS)
    doubled = {k: v if k.endswith("ids") else torch.cat([v, v]) for k, v in inputs.items()}
    with torch.no_grad(), analogy(model, query_BQ):
        once, twice = model(**inputs).sample, model(**doubled).sample
    torch.testing.assert_close(twice, torch.cat([once, once]), rtol=1e-4, atol=1e-5)
    with analogy(model, query_BQ), pytest.raises(ValueError, match="3 rows for 2 analogies"):
        model(**tiny_inputs(3, 8))


def test_a_mix_is_as_good_as_its_query(model: nn.Module) -> None:
    inputs, query_BQ = tiny_inputs(2, 8), queries(2, SETTINGS)
    with torch.no_grad():
        with analogy(model, query_BQ):
            expected = model(**inputs).sample
        with analogy(model, mix=mix(model, query_BQ)) as e_BLN:
            assert torch.equal(model(**inputs).sample, expected)
        with analogy(model, mix=e_BLN[1]):
            both_second = model(**inputs).sample
    torch.testing.assert_close(both_second[1], expected[1], rtol=1e-4, atol=1e-5)


def test_strength_scales_the_update_and_zero_is_the_base(model: nn.Module) -> None:
    inputs, query_BQ = tiny_inputs(2, 8), queries(2, SETTINGS)
    layer, x = model.transformer_blocks[0].attn.to_q, torch.randn(2, 4, 32)
    base, plain = model(**inputs).sample, layer(x)
    with analogy(model, query_BQ):
        full = layer(x)
    with analogy(model, query_BQ, strength=-0.5):
        torch.testing.assert_close(layer(x), plain - 0.5 * (full - plain), rtol=1e-4, atol=1e-5)
    with analogy(model, query_BQ, strength=0.0):
        assert torch.equal(model(**inputs).sample, base)
    with pytest.raises(ValueError, match="strength is nan"), analogy(model, query_BQ, strength=float("nan")):
        pass


def test_blocks_nest_and_exceptions_restore(model: nn.Module) -> None:
    inputs, first, second = tiny_inputs(1, 8), queries(1, SETTINGS, 1), queries(1, SETTINGS, 2)
    with torch.no_grad():
        base = model(**inputs).sample
        with analogy(model, first):
            outer = model(**inputs).sample
            with analogy(model, second):
                assert not torch.equal(model(**inputs).sample, outer)
            assert torch.equal(model(**inputs).sample, outer)
            with pytest.raises(KeyError), analogy(model, second):
                raise KeyError
            assert torch.equal(model(**inputs).sample, outer)
            with analogy(model, second, strength=0.0):
                assert torch.equal(model(**inputs).sample, base)
        assert torch.equal(model(**inputs).sample, base)


def test_what_does_not_fit_is_refused_with_both_shapes(model: nn.Module) -> None:
    wrong = {
        r"shape \(2, 11\), this basis needs \[batch, 12\]": {"query": torch.zeros(2, 11)},
        r"shape \(0, 12\)": {"query": torch.zeros(0, 12)},
        r"shape \(2, 26, 5\), this basis needs \[batch, 26, 4\]": {"mix": torch.zeros(2, 26, 5)},
        "exactly one of query and mix": {},
    }
    for message, given in wrong.items():
        with pytest.raises(ValueError, match=message), analogy(model, **given):
            pass


def backward(model: nn.Module, batch: int = 2) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with analogy(model, queries(batch, SETTINGS)):
        model(**tiny_inputs(batch, 8)).sample.square().mean().backward()
    return gradients(model)


def test_gradients_reach_b_first_and_the_router_one_step_later() -> None:
    model = tiny_transformer(0)
    add_basis(model, SETTINGS, seed=0)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    first = backward(model)
    assert all(bool(g.any()) == name.endswith(".B") for name, g in first.items()), "B = 0 blocks everything but B"
    optimizer.step()
    second = backward(model)
    assert all(bool(g.any()) for g in second.values())
    for index, name in enumerate(router_of(model).layer_names):
        assert second["basis_router.keys"][index].any() and second["basis_router.projection"][index].any(), name
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad), "the base has gradients"


def test_gradient_checkpointing_changes_nothing(model: nn.Module) -> None:
    plain = backward(model)
    model.train()
    model.enable_gradient_checkpointing()
    recomputed = backward(model)
    assert plain.keys() == recomputed.keys()
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


@pytest.mark.parametrize("frozen_router", [False, True])
def test_backward_after_the_block_is_refused_under_checkpointing(model: nn.Module, frozen_router: bool) -> None:
    model.train()
    model.enable_gradient_checkpointing()
    inputs, query_BQ = tiny_inputs(2, 8), queries(2, SETTINGS)
    given = {"mix": mix(model, query_BQ).detach()} if frozen_router else {"query": query_BQ}
    with analogy(model, **given):
        loss = model(**inputs).sample.square().mean()
    with pytest.raises(RuntimeError, match="call backward inside"):
        loss.backward()
    with analogy(model, **given):
        loss = model(**inputs).sample.square().mean()
    with pytest.raises(RuntimeError, match="call backward inside"), analogy(model, query_BQ.flip(0)):
        loss.backward()  # the forward would silently be run again under the wrong analogy
    del loss
    backward(model)


def test_the_base_alone_may_still_be_checkpointed(model: nn.Module) -> None:
    """A closed analogy that had its backward must not make later base-only steps fail."""
    model.train()
    model.enable_gradient_checkpointing()
    backward(model)
    inputs = tiny_inputs(2, 8)
    inputs["hidden_states"].requires_grad_()
    model(**inputs).sample.square().mean().backward()
    assert inputs["hidden_states"].grad is not None and inputs["hidden_states"].grad.any()


def test_without_checkpointing_backward_may_come_later(model: nn.Module) -> None:
    expected = backward(model)
    model.zero_grad()
    with analogy(model, queries(2, SETTINGS)):
        loss = model(**tiny_inputs(2, 8)).sample.square().mean()
    loss.backward()
    assert all(torch.equal(g, expected[name]) for name, g in gradients(model).items())


@pytest.mark.slow
def test_ddp_finds_every_parameter_used(model: nn.Module, tmp_path: Path) -> None:
    """Two steps: DDP complains at the second one if a parameter got no gradient at the first."""
    expected = backward(model)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        twice_in_parallel(model, expected)
    finally:
        gc.collect()  # DDP goes before its group: the other way round its end waits for threads that wait for it
        dist.destroy_process_group()


def twice_in_parallel(model: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    parallel = nn.parallel.DistributedDataParallel(model)
    for _ in range(2):
        model.zero_grad()
        with analogy(parallel, queries(2, SETTINGS)):
            parallel(**tiny_inputs(2, 8)).sample.square().mean().backward()
        found = gradients(model)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
