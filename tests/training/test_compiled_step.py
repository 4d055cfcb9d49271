"""train.compile: compiled blocks train as the others do."""

from collections.abc import Iterator

import pytest
import torch

from lorweb.training.step import take_step
from lorweb.training.validation import validate
from tests.training.made import held_out, make_run, train_section, weights, write_data


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def compare(folders, name, backend, **changes):
    """Three steps and a validation, with and without compiled blocks; returns how many graphs that took."""
    plain, compiled = (make_run(folders, train_section(**changes), name) for _ in range(2))
    compiled.variant.transformer.compile_repeated_blocks(backend=backend)
    for run in (plain, compiled):
        if run.config.gradient_checkpointing:
            run.variant.transformer.enable_gradient_checkpointing()
    for step in range(3):
        one, other = take_step(plain, step), take_step(compiled, step)
        assert other.loss == pytest.approx(one.loss, rel=1e-4)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-3)
        assert other.router_gradient_norm == pytest.approx(one.router_gradient_norm, rel=1e-2, abs=1e-6)
    chosen = held_out(folders)[0]
    assert validate(compiled, chosen) == pytest.approx(validate(plain, chosen), rel=1e-3)
    for key, value in weights(plain).items():
        assert torch.allclose(value, weights(compiled)[key], atol=2e-3), key
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lorweb", "single_lora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_blocks_train_as_the_others(folders, name, checkpointing):
    """Two kinds of blocks, each once for training and once for validation: 4 graphs, however many steps."""
    graphs = compare(folders, name, "aot_eager", gradient_checkpointing=checkpointing)
    assert 2 <= graphs <= 4
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.slow
def test_generated_code_trains_as_the_others(folders):
    """The real compiler, C++ included: what the switch turns on."""
    assert compare(folders, "lorweb", "inductor") >= 2
