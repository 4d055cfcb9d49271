import pytest
import torch
from safetensors.torch import load_file, save_file

from lorweb.basis.inject import match_targets
from lorweb.training.baseline import ADAPTER_FILE, load_variant
from lorweb.training.step import take_step
from tests.kontext_tiny import tiny_transformer
from tests.tiny import tiny_inputs
from tests.training.made import TEXT_WIDTH, equal, make_run, train_section, weights, write_data


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def linears(transformer):
    targets = train_section().basis.targets
    return [transformer.get_submodule(name) for name in match_targets(transformer, targets)]


def test_it_has_as_many_parameters_as_the_basis_and_no_router(folders):
    basis, single = (make_run(folders, train_section(), name).variant for name in ("lorweb", "single_lora"))
    by_hand = 4 * 2 * sum(layer.in_features + layer.out_features for layer in linears(tiny_transformer()))
    assert single.size == by_hand == sum(p.numel() for p in basis.adapters.values())
    layers = len(linears(tiny_transformer()))
    assert basis.size - single.size == layers * (4 * 8 + 8 * 48) and not single.router  # keys and projections


def test_both_sit_on_the_same_layers(folders):
    basis, single = (make_run(folders, train_section(), name).variant for name in ("lorweb", "single_lora"))
    wrapped = {name.removesuffix(".A") for name in basis.adapters if name.endswith(".A")}
    assert wrapped == {name.removesuffix(".lora_A.default.weight") for name in single.adapters if ".lora_A." in name}


def test_the_rest_of_the_base_is_frozen(folders):
    transformer = make_run(folders, train_section(), "single_lora").variant.transformer
    assert {n for n, p in transformer.named_parameters() if p.requires_grad} == {
        n for n, _ in transformer.named_parameters() if ".lora_" in n
    }


def test_equal_seeds_are_equal_and_the_global_generator_is_left_alone(folders):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = make_run(folders, train_section(), "single_lora")
    torch.manual_seed(11)
    second = make_run(folders, train_section(), "single_lora")
    assert equal(weights(first), weights(second))
    from lorweb.training.baseline import new_single_lora

    transformer = tiny_transformer()
    torch.manual_seed(5)
    new_single_lora(transformer, 2, train_section().basis.targets, seed=0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", ["lorweb", "single_lora"])
def test_what_was_trained_loads_into_a_fresh_base_and_computes_the_same(folders, tmp_path, name):
    run = make_run(folders, train_section(), name)
    for step in range(3):
        take_step(run, step)
    run.variant.save(tmp_path, {"steps": "3"})
    loaded = load_variant(tiny_transformer(), tmp_path)
    assert loaded.name == name and equal(weights(run), dict(loaded.parameters))
    inputs = tiny_inputs(batch=2, tokens=8)
    inputs["encoder_hidden_states"] = torch.ones(2, 6, TEXT_WIDTH)
    inputs["pooled_projections"] = torch.ones(2, 32)
    query = torch.randn(2, run.encoded.query_dim)
    outputs = []
    for variant in (run.variant, loaded):
        with torch.no_grad(), variant.conditioned(query):
            outputs.append(variant.transformer(**inputs, return_dict=False)[0])
    assert torch.equal(*outputs)
    with torch.no_grad():
        assert not torch.equal(outputs[0], tiny_transformer()(**inputs, return_dict=False)[0])


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither basis.safetensors nor adapter.safetensors"):
        load_variant(tiny_transformer(), tmp_path)


def test_an_adapter_of_another_base_is_refused(folders, tmp_path):
    run = make_run(folders, train_section(), "single_lora")
    run.variant.save(tmp_path, {})
    state = load_file(tmp_path / ADAPTER_FILE)
    save_file({f"other.{name}": value for name, value in state.items()}, tmp_path / ADAPTER_FILE)
    with pytest.raises(ValueError, match="unknown layers"):
        load_variant(tiny_transformer(), tmp_path)


def test_factors_are_float32_on_a_bfloat16_base():
    from lorweb.training.baseline import new_single_lora

    variant = new_single_lora(tiny_transformer().to(torch.bfloat16), 2, train_section().basis.targets, seed=0)
    assert {parameter.dtype for parameter in variant.adapters.values()} == {torch.float32}
