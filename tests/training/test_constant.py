"""The basis without a router: N constants per layer, in the place of coefficients that the exemplar decides."""

import pytest
import torch

from lorweb.basis import analogy, basis_layers, mix
from lorweb.training.baseline import load_variant, new_single_lora
from lorweb.training.health import router_health
from lorweb.training.step import take_step
from tests.kontext_tiny import tiny_transformer
from tests.tiny import tiny_inputs
from tests.training.made import TEXT_WIDTH, held_out, make_run, train_section, weights, write_data

SECTION = train_section()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(folders):
    run = make_run(folders, SECTION, "basis_constant")
    for step in range(3):
        take_step(run, step)
    return run


def inputs():
    found = tiny_inputs(batch=2, tokens=8)
    return found | {"encoder_hidden_states": torch.ones(2, 6, TEXT_WIDTH), "pooled_projections": torch.ones(2, 32)}


@torch.no_grad()
def output(variant, query):
    with variant.conditioned(query):
        return variant.transformer(**inputs(), return_dict=False)[0]


def test_it_has_a_number_per_lora_and_begins_with_the_factors_of_the_basis(folders):
    basis, constant = (make_run(folders, SECTION, name).variant for name in ("lorweb", "basis_constant"))
    layers = len(basis_layers(basis.transformer))
    assert constant.size - sum(p.numel() for p in basis.adapters.values()) == layers * SECTION.basis.n_loras
    assert constant.adapters.keys() == basis.adapters.keys()
    assert all(torch.equal(constant.adapters[name], value) for name, value in basis.adapters.items())


def test_coefficients_are_the_same_for_every_query_and_those_of_its_numbers(trained):
    constants = trained.variant.router["router.keys"].detach().squeeze(-1)
    queries = torch.randn(5, trained.encoded.query_dim)
    e_BLN = mix(trained.variant.transformer, trained.variant.asked(queries))
    torch.testing.assert_close(e_BLN.detach(), constants.softmax(-1).expand(5, -1, -1))
    assert torch.equal(output(trained.variant, queries[:2]), output(trained.variant, 9 * queries[2:4]))


def test_it_is_one_lora_by_stock_peft_with_its_columns_scaled(trained):
    """What constants can express, a plain LoRA of rank N*r can: they differ in how they are trained."""
    r, transformer = SECTION.basis.rank, tiny_transformer()
    new_single_lora(transformer, SECTION.basis.n_loras * r, SECTION.basis.targets, seed=0)
    e_LN = mix(trained.variant.transformer, torch.ones(1, 1))[0].detach()
    with torch.no_grad():
        for e_N, (name, layer) in zip(e_LN, basis_layers(trained.variant.transformer).items(), strict=True):
            lora = transformer.get_submodule(name)
            lora.lora_A["default"].weight.copy_(layer.A)
            lora.lora_B["default"].weight.copy_(layer.B * e_N.repeat_interleave(r))
        expected = transformer(**inputs(), return_dict=False)[0]
    found = output(trained.variant, torch.randn(2, trained.encoded.query_dim))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad(), analogy(trained.variant.transformer, torch.ones(2, 1), strength=0.0):
        assert not torch.allclose(found, trained.variant.transformer(**inputs(), return_dict=False)[0], atol=1e-3)


ROUTERS = {
    "tanh": {"activation": "tanh"},
    "heads": {"heads": 4, "reduce": "sum"},
    "internal": {"internal": {"mode": "caa'b", "pooling": "max"}},
}


@pytest.mark.parametrize("changes", ROUTERS.values(), ids=list(ROUTERS))
def test_it_trains_whatever_the_router_was_to_be(folders, changes):
    section = train_section(basis={**SECTION.basis.model_dump(), **changes})
    run = make_run(folders, section, "basis_constant")
    before = weights(run)
    for step in range(2):
        take_step(run, step)
    assert not any(torch.equal(before[name], value) for name, value in weights(run).items())


def test_health_sees_that_it_is_constant(folders, trained):
    found = router_health(trained, held_out(folders)[0])
    assert found["variation"] == 0.0 and found["mix_spread"] == 0.0 and 0.5 < found["entropy"] <= 1.0


def test_a_file_is_what_it_was(trained, tmp_path):
    trained.variant.save(tmp_path, {"steps": "3"})
    loaded = load_variant(tiny_transformer(), tmp_path)
    assert loaded.name == "basis_constant"
    query = torch.randn(2, trained.encoded.query_dim)
    assert torch.equal(output(loaded, query), output(trained.variant, query))
