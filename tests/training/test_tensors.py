"""The state of every optimiser goes through a file and back, bit for bit; 8-bit ones in test_eight_bit.py."""

import pytest
import torch

from lorweb.training.tensors import pack, unpack
from tests.training.made import make_run, train_section, write_data
from tests.training.round_trip import assert_goes_on_bit_for_bit, optimizer_section


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "adamw_fused", "prodigy"])
@pytest.mark.parametrize("variant", ["lorweb", "single_lora"])
def test_a_run_goes_on_from_the_file_as_if_it_had_not_stopped(folders, tmp_path, name, variant):
    tensors = assert_goes_on_bit_for_bit(folders, tmp_path / "state.safetensors", name, variant)
    assert {key.split("/")[0] for key in tensors} >= {"model", "ema", "optimizer"}
    learnt = {key for key in tensors if key.startswith("group/")}
    assert bool(learnt) == (name == "prodigy")
    if learnt:
        assert float(tensors["group/0/k"]) == 3 and float(tensors["group/0/d"]) > 1e-6


def test_a_tensor_too_many_too_few_or_of_another_shape_is_refused(folders):
    run = make_run(folders, train_section())
    tensors = pack(run.variant.parameters, run.optimizer)
    first = next(iter(run.variant.parameters))
    faults = {
        "differ in 1 tensors": {key: value for key, value in tensors.items() if key != f"model/{first}"},
        "differ in 1 tensors, first": tensors | {"model/stranger": torch.ones(1)},
        "differ in 1 tensors, first .'ghost'": tensors | {"optimizer/ghost/step": torch.ones(())},
        "has shape .1,. in the checkpoint": tensors | {f"model/{first}": torch.ones(1)},
    }
    for words, harmed in faults.items():
        with pytest.raises(ValueError, match=words):
            unpack(harmed, run.variant.parameters, run.optimizer)


def test_what_is_packed_shares_no_memory(folders, tmp_path):
    from safetensors.torch import save_file

    run = make_run(folders, train_section(optimizer=optimizer_section("adamw")))
    shared = torch.arange(256.0)
    for parameter in run.variant.parameters.values():
        run.optimizer.state[parameter] = {"table": shared}
    tensors = pack(run.variant.parameters, run.optimizer)
    save_file(tensors, tmp_path / "shared.safetensors")  # refuses tensors that share memory
    assert sum(key.endswith("/table") for key in tensors) > 10
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    shared += 1
    for parameter in run.variant.parameters.values():
        parameter.data += 1
    assert all(torch.equal(tensors[name], before[name]) for name in before), "the next step changed a snapshot"
