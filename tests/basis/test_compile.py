"""torch.compile: the same numbers, and as few graphs as the bare base has."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from lorweb.basis import analogy
from tests.basis.cases import config, gradients, queries, trained
from tests.tiny import tiny_inputs, tiny_transformer

pytestmark = pytest.mark.slow

SETTINGS = config()
INPUTS = tiny_inputs(2, 8)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def with_basis(**sizes: int) -> Any:
    transformer = tiny_transformer(0, **sizes)
    trained(transformer, SETTINGS)
    return transformer


def step(transformer: Any, query_BQ: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    transformer.zero_grad()
    with analogy(transformer, query_BQ):
        sample = transformer(**INPUTS).sample
        sample.square().mean().backward()
    return sample.detach(), gradients(transformer)


def test_repeated_blocks_need_no_more_graphs_than_the_base_and_none_for_another_analogy() -> None:
    bare = tiny_transformer(0)
    bare.compile_repeated_blocks(backend="eager", fullgraph=True)
    with torch.no_grad():
        bare(**INPUTS)
    alone = graphs()
    assert alone >= 2, "a double and a single block"
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    ours = with_basis()
    with torch.no_grad(), analogy(ours, queries(2, SETTINGS)):
        eager = ours(**INPUTS).sample
        ours.compile_repeated_blocks(backend="eager", fullgraph=True)
        torch.testing.assert_close(ours(**INPUTS).sample, eager)
    assert graphs() == alone
    for seed, strength in ((9, 1.0), (10, 0.5)):
        with torch.no_grad(), analogy(ours, queries(2, SETTINGS, seed), strength=strength):
            assert not torch.allclose(ours(**INPUTS).sample, eager, atol=1e-3)
    assert graphs() == alone


def test_the_whole_model_is_one_graph() -> None:
    ours = with_basis()
    compiled = torch.compile(ours, backend="eager", fullgraph=True)
    with torch.no_grad():
        with analogy(ours, queries(2, SETTINGS)):
            expected = ours(**INPUTS).sample
        with analogy(compiled, queries(2, SETTINGS)):
            torch.testing.assert_close(compiled(**INPUTS).sample, expected)
        with analogy(compiled, queries(2, SETTINGS, 9)):
            assert not torch.allclose(compiled(**INPUTS).sample, expected)
    assert graphs() == 1


@pytest.mark.slow
def test_gradients_of_compiled_blocks() -> None:
    ours = with_basis()
    _, expected = step(ours, queries(2, SETTINGS))
    ours.compile_repeated_blocks(backend="aot_eager", fullgraph=True)
    _, found = step(ours, queries(2, SETTINGS))
    assert graphs() >= 2
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


@pytest.mark.slow
def test_generated_code_agrees_forward_and_backward() -> None:
    """The real compiler, C++ included; about half a minute."""
    ours = with_basis(single=1)
    sample, expected = step(ours, queries(2, SETTINGS))
    ours.compile_repeated_blocks(fullgraph=True)
    compiled, found = step(ours, queries(2, SETTINGS))
    assert graphs() == 2
    torch.testing.assert_close(compiled, sample, rtol=1e-4, atol=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=name)
