"""Adding and removing a basis on the stock transformer."""

import copy
import pickle

import pytest
import torch

from lorweb.basis import add_basis, analogy, basis_layers, count_parameters, mix, remove_basis, target_sizes, trainable
from lorweb.basis.layer import BasisLinear
from tests.basis.cases import config, queries, trained
from tests.tiny import tiny_inputs, tiny_transformer

PAPER = {"n_loras": 32, "rank": 4, "key_dim": 128, "query_dim": 2304}


def test_the_model_is_the_base_bit_for_bit_at_the_start() -> None:
    model, inputs = tiny_transformer(0), tiny_inputs(2, 8)
    before = model(**inputs).sample
    report = add_basis(model, config(), seed=0)
    assert len(report.layers) == 14 + 2 * 6
    assert torch.equal(model(**inputs).sample, before)
    with analogy(model, queries(2, config())):
        assert torch.equal(model(**inputs).sample, before)


def test_the_report_counts_what_is_trainable() -> None:
    model, settings = tiny_transformer(0), config()
    sizes = target_sizes(model, settings.targets)
    report = add_basis(model, settings, seed=0)
    counted = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.trainable_parameters == counted == count_parameters(settings, sizes.values())
    assert list(sizes) == list(report.layers) == list(basis_layers(model))
    assert target_sizes(model, settings.targets) == sizes, "the same with the basis in place"
    basis, router = trainable(model)
    assert len(basis) == 2 * len(sizes) and len(router) == 2


def test_removing_gives_the_stock_model_back() -> None:
    model, inputs = tiny_transformer(0), tiny_inputs(2, 8)
    keys, before = list(model.state_dict()), model(**inputs).sample
    trained(model, config())
    assert list(model.state_dict()) != keys
    remove_basis(model)
    assert list(model.state_dict()) == keys
    assert torch.equal(model(**inputs).sample, before)
    add_basis(model, config(), seed=0)
    with pytest.raises(ValueError, match="already has a basis"):
        add_basis(model, config(), seed=0)


def test_a_layer_draws_the_same_whatever_else_is_targeted() -> None:
    one, two = tiny_transformer(0), tiny_transformer(0)
    add_basis(one, config(), seed=3)
    add_basis(two, config(targets=("*.attn.to_k",)), seed=3)
    names = list(basis_layers(two))
    assert len(names) == 3
    for name in names:
        assert torch.equal(basis_layers(one)[name].A, basis_layers(two)[name].A)
    other = tiny_transformer(0)
    add_basis(other, config(), seed=4)
    assert not torch.equal(basis_layers(one)[names[0]].A, basis_layers(other)[names[0]].A)


def test_layers_do_not_share_their_first_values() -> None:
    model = tiny_transformer(0)
    add_basis(model, config(), seed=0)
    first = [layer.A.detach()[:, :16] for layer in basis_layers(model).values()]
    assert not any(torch.equal(x, y) for i, x in enumerate(first) for y in first[:i])
    e_LN = mix(model, queries(1, config()))[0]
    assert len({tuple(row.tolist()) for row in e_LN}) == len(e_LN), "two layers have one router"


def test_a_pattern_that_matches_nothing_lists_what_it_could_be() -> None:
    model = tiny_transformer(0)
    with pytest.raises(
        ValueError, match=r"transformer_block\.\*.*matches none of the \d+ linear.*transformer_blocks\.0"
    ):
        add_basis(model, config(targets=("transformer_blocks.*", "transformer_block.*")), seed=0)
    assert not any(isinstance(m, BasisLinear) for m in model.modules()), "a refused call changes nothing"
    assert all(p.requires_grad for p in model.parameters())


def test_functions_that_need_a_basis_say_so() -> None:
    model = tiny_transformer(0)
    for call in (lambda: remove_basis(model), lambda: mix(model, torch.zeros(1, 12)), lambda: trainable(model)):
        with pytest.raises(ValueError, match="has no basis; call add_basis"):
            call()


def test_copies_and_pickles_are_independent_and_carry_no_open_analogy() -> None:
    model, inputs, settings = tiny_transformer(0), tiny_inputs(2, 8), config()
    trained(model, settings)
    query_BQ = queries(2, settings)
    with analogy(model, query_BQ):
        expected = model(**inputs).sample
        copies = [
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(basis_layers(model)["transformer_blocks.0.attn.to_q"])),
        ]
    base = copies[0](**inputs).sample
    assert not torch.allclose(base, expected), "the copy must not run under the original's analogy"
    assert copies[1].e_BK is None
    with analogy(copies[0], query_BQ):
        assert torch.equal(copies[0](**inputs).sample, expected)
        assert all(layer.e_BK is None for layer in basis_layers(model).values())
    with torch.no_grad():
        basis_layers(copies[0])["transformer_blocks.0.attn.to_q"].B.add_(1)
    with analogy(model, query_BQ):
        assert torch.equal(model(**inputs).sample, expected)


def test_diffusers_still_sees_the_base() -> None:
    model = tiny_transformer(0).to(torch.bfloat16)
    add_basis(model, config(), seed=0)
    layer = model.transformer_blocks[0].attn.to_q
    assert model.dtype == torch.bfloat16 and layer.weight.dtype == torch.bfloat16
    assert (layer.in_features, layer.out_features) == (32, 32) and layer.bias.shape == (32,)


def test_the_paper_counts_to_the_unit() -> None:
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        model = FluxTransformer2DModel(guidance_embeds=True)
    sizes = target_sizes(model, config().targets)
    report = add_basis(model, config(**PAPER), seed=0)
    assert len(report.layers) == 494
    assert report.trainable_parameters == 835_051_520
    ablations = {
        835_051_520: {},
        2_897_076_224: {"rank": 16},
        833_533_952: {"rank": 16, "n_loras": 8},
        490_369_024: {"n_loras": 16},
        1_524_416_512: {"n_loras": 64},
        737_927_168: {"query_dim": 768, "query_mode": "caa'bb'"},
    }
    for expected, changes in ablations.items():
        assert count_parameters(config(**{**PAPER, **changes}), sizes.values()) == expected, changes
    assert 128 * sum(i + o for i, o in sizes.values()) == 687_341_568, "the single LoRA of rank 128"


def flux_sizes() -> list[tuple[int, int]]:
    """The table of FLUX.1's blocks, by hand."""
    D = 3072
    double = [(D, 6 * D)] * 2 + [(D, D)] * 8 + [(D, 4 * D), (4 * D, D)] * 2
    single = [(D, 3 * D), (D, 4 * D), (5 * D, D)] + [(D, D)] * 3
    return double * 19 + single * 38


def test_the_formula_counts_the_paper_without_a_model() -> None:
    assert len(flux_sizes()) == 494
    assert count_parameters(config(**PAPER), flux_sizes()) == 835_051_520
    none = config(**{**PAPER, "projection": "none", "query_dim": 128})
    assert count_parameters(none, flux_sizes()) == 835_051_520 - 145_686_528
