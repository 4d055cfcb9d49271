"""What could go wrong without an error: odd bases, backward in the wrong place, copies, numbers that are none."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lorweb.basis import analogy, basis_layers, mix
from lorweb.basis.fold import bake
from tests.basis.cases import config, gradients, queries, trained
from tests.basis.internal_cases import internal
from tests.tiny import grid_ids, tiny_inputs, tiny_transformer

SETTINGS = config()
LAYER = config(targets=("*",))
FIRST, SECOND = queries(2, SETTINGS, 1), queries(2, SETTINGS, 2)


class Odd(nn.Module):
    """A base that does something with the input of width 5, and keeps or gives out what is not its own."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.in_features = self.out_features = 5
        self.weight, self.bias, self.function = nn.Parameter(torch.zeros(5, 5)), None, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "returns its input": lambda x: x,
    "keeps its output for backward": torch.tanh,
    "gives out one row for all": lambda x: x[..., :1, :].expand_as(x) if x.ndim == 3 else x[:1].expand_as(x),
}


@pytest.mark.parametrize("function", ODD.values(), ids=list(ODD))
@pytest.mark.parametrize("gradient", [False, True])
def test_a_base_may_return_what_is_not_its_own(function: Callable[[Tensor], Tensor], gradient: bool) -> None:
    model = nn.Sequential(Odd(function))
    trained(model, LAYER)
    layer = basis_layers(model)["0"]
    for shape in ((2, 3, 5), (2, 5)):
        x = torch.randn(shape, requires_grad=gradient)
        kept, base = x.detach().clone(), function(x.detach())
        with torch.set_grad_enabled(gradient), analogy(model, queries(2, LAYER)) as e_BLN:
            y = layer(x)
            if gradient:
                y.sum().backward()
        assert torch.equal(x.detach(), kept), "the input was written over"
        e_BK = e_BLN[:, 0].repeat_interleave(LAYER.rank, 1)
        h = (x.detach() @ layer.A.T) * (e_BK if x.ndim == 2 else e_BK[:, None])
        torch.testing.assert_close(y - base, h @ layer.B.T)


def test_a_hook_on_the_base_keeps_what_the_base_said() -> None:
    model = nn.Sequential(nn.Linear(5, 4))
    trained(model, LAYER)
    seen: list[tuple[Tensor, Tensor]] = []
    layer, x = basis_layers(model)["0"], torch.randn(2, 3, 5)
    with torch.no_grad():
        plain = layer.base(x)
        layer.base.register_forward_hook(lambda _, args, y: seen.append((args[0], y)))
        with analogy(model, queries(2, LAYER)):
            y = layer(x)
    assert not torch.allclose(y, plain, atol=1e-3)
    assert torch.equal(seen[0][0], x) and torch.equal(seen[0][1], plain)


def test_a_float32_basis_on_a_bfloat16_base_adds_the_whole_update() -> None:
    """The base rounds to bfloat16; what the basis adds is exact to that rounding of the sum."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 12).to(torch.bfloat16))
    trained(model, LAYER)
    layer, x = basis_layers(model)["0"], torch.randn(2, 3, 16, dtype=torch.bfloat16)
    with torch.no_grad():
        layer.B.mul_(20)  # an update as large as the base's output
        with analogy(model, queries(2, LAYER)) as e_BLN:
            y = layer(x).double()
        e_BK = e_BLN[:, 0].repeat_interleave(LAYER.rank, 1).double()[:, None]
        update = ((x.double() @ layer.A.double().T) * e_BK) @ layer.B.double().T
        base = layer.base(x).double()
    assert float(update.norm()) > 0.3 * float(base.norm())
    assert float((y - base - update).abs().max()) <= 2**-7 * float((base.abs() + update.abs()).max())
    assert float((y - base - update).norm()) < 0.01 * float(update.norm() + base.norm())


def test_nothing_in_is_nothing_out() -> None:
    model = nn.Sequential(nn.Linear(5, 4))
    trained(model, LAYER)
    layer = basis_layers(model)["0"]
    with analogy(model, queries(1, LAYER)):
        assert layer(torch.zeros(0, 5)).shape == (0, 4) and layer(torch.zeros(2, 0, 5)).shape == (2, 0, 4)


def checkpointed() -> Any:
    model = tiny_transformer(0)
    trained(model, SETTINGS)
    model.train()
    model.enable_gradient_checkpointing()
    return model


def loss_of(model: Any) -> Tensor:
    value: Tensor = model(**tiny_inputs(2, 8)).sample.square().mean()
    return value


def test_backward_inside_another_analogy_is_refused_under_checkpointing() -> None:
    model = checkpointed()
    with analogy(model, FIRST):
        loss = loss_of(model)
        with pytest.raises(RuntimeError, match="call backward inside its own"), analogy(model, SECOND):
            loss.backward()
    with analogy(model, FIRST):
        loss = loss_of(model)
        with analogy(model, SECOND, strength=0.5):
            loss_of(model)
        loss.backward()  # its own again
    assert gradients(model)


def test_a_plain_checkpoint_call_is_watched_too() -> None:
    model = nn.Sequential(nn.Linear(5, 4))
    trained(model, LAYER)
    x = torch.randn(2, 3, 5, requires_grad=True)
    with analogy(model, queries(2, LAYER)):
        loss = checkpoint(basis_layers(model)["0"], x, use_reentrant=False).sum()
    with pytest.raises(RuntimeError, match="call backward inside"), analogy(model, queries(2, LAYER, 9)):
        loss.backward()


def test_legitimate_backwards_are_let_through() -> None:
    model = checkpointed()
    inputs = tiny_inputs(2, 8)
    inputs["hidden_states"].requires_grad_()
    with analogy(model, FIRST):
        older = loss_of(model)  # its graph stays alive
    with analogy(model, FIRST, strength=0.0):
        model(**inputs).sample.square().mean().backward()
    model(**inputs).sample.square().mean().backward()
    with pytest.raises(RuntimeError, match="call backward inside"):
        with analogy(model, FIRST):
            late = loss_of(model)
        late.backward()
    del older


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    model = tiny_transformer(0)
    trained(model, SETTINGS)
    query = FIRST.clone()
    query[1, 3] = bad
    e_BLN = mix(model, FIRST).detach()
    e_BLN[0, 0, 0] = bad
    for call, name in (
        (lambda: mix(model, query), "query"),
        (lambda: analogy(model, query).__enter__(), "query"),
        (lambda: analogy(model, mix=e_BLN).__enter__(), "mix"),
        (lambda: bake(model, e_BLN[:1]), "mix"),
    ):
        with pytest.raises(ValueError, match=f"the {name} holds values that are not finite"):
            call()
    with pytest.raises(ValueError, match="strength is 1e"), analogy(model, FIRST, strength=1e39):
        pass


def grid_inputs() -> dict[str, Tensor]:
    return tiny_inputs(2, 16) | {"img_ids": grid_ids(2, 4)}


def test_a_copy_made_inside_an_internal_analogy_is_on_its_own() -> None:
    model = internal()
    with torch.no_grad(), analogy(model):
        expected = model(**grid_inputs()).sample
        twin = copy.deepcopy(model)
        before = [layer.tokens_M for layer in basis_layers(model).values()]
        twin(**tiny_inputs(2, 6))  # no control tokens: the copy is not under an analogy, so it does not ask for any
        assert all(a is b for a, b in zip(before, [x.tokens_M for x in basis_layers(model).values()], strict=True))
        assert torch.equal(model(**grid_inputs()).sample, expected)
    with torch.no_grad(), analogy(twin):
        assert torch.equal(twin(**grid_inputs()).sample, expected)
