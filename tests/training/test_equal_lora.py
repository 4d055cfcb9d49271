"""The LoRA with as many parameters as basis and router: counts, ranks per layer, its file."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lorweb.basis import BasisConfig, count_parameters, target_sizes
from lorweb.sizes import KONTEXT, PAPER, meta_transformer
from lorweb.training.baseline import ADAPTER_FILE, equal_ranks, load_variant, new_equal_lora
from tests.kontext_tiny import tiny_transformer
from tests.training.made import make_run, train_section, write_data


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def with_projection(kind):
    basis = train_section().basis.model_dump()
    internal = {"mode": "caa'b", "pooling": "avg"} if kind == "internal" else None
    wide = {"key_dim": 48} if kind == "none" else {}  # the width of the made queries
    return train_section(basis={**basis, **wide, "projection": "linear" if internal else kind, "internal": internal})


@pytest.mark.parametrize("kind", ["linear", "shared", "none", "internal"])
def test_it_has_as_many_parameters_as_basis_and_router_to_within_one_rank(folders, kind):
    section = with_projection(kind)
    basis, lora = (make_run(folders, section, name).variant for name in ("lorweb", "single_lora_equal"))
    single = make_run(folders, section, "single_lora").variant
    step = max(i + o for i, o in target_sizes(tiny_transformer(), section.basis.targets).values())
    assert 0 <= basis.size - lora.size < step and lora.size > single.size and not lora.router


@pytest.mark.slow
def test_at_the_papers_size_by_stock_peft():
    transformer, config = meta_transformer(KONTEXT), BasisConfig(**PAPER)
    variant = new_equal_lora(transformer, config, seed=0)
    assert 0 <= 835_051_520 - variant.size < 2 * 3072
    ranks = {len(p) for name, p in variant.adapters.items() if ".lora_A." in name}
    assert min(ranks) > config.total_rank and len(ranks) > 2, "wide layers afford fewer ranks for their router"


widths = st.tuples(st.integers(1, 300), st.integers(1, 300))


@given(
    st.lists(widths, min_size=1, max_size=12),
    st.tuples(*[st.integers(1, 40)] * 4),
    st.sampled_from(["linear", "shared"]),
)
def test_ranks_of_any_layers_pay_for_the_router_and_waste_no_whole_rank(sizes, numbers, projection):
    n_loras, rank, key_dim, query_dim = numbers
    config = BasisConfig(**{**PAPER, "n_loras": n_loras, "rank": rank, "key_dim": key_dim, "query_dim": query_dim})
    config = config.model_copy(update={"projection": projection})
    layers = {f"l{i}": size for i, size in enumerate(sizes)}
    ranks = equal_ranks(config, layers)
    total = count_parameters(config, sizes)
    left = total - sum(ranks[name] * (i + o) for name, (i, o) in layers.items())
    assert 0 <= left < max(i + o for i, o in sizes)
    routers = Fraction(total - config.total_rank * sum(i + o for i, o in sizes), len(sizes))  # alike for every layer
    for name, (i, o) in layers.items():
        assert -1 < ranks[name] - config.total_rank - routers / (i + o) <= 1


def test_layers_have_ranks_of_their_own_and_scale_one(folders):
    transformer = make_run(folders, train_section(), "single_lora_equal").variant.transformer
    layers = [module for module in transformer.modules() if hasattr(module, "lora_A")]
    ranks = {module.r["default"] for module in layers}
    assert len(layers) == len(target_sizes(tiny_transformer(), train_section().basis.targets)) and len(ranks) > 1
    assert {module.scaling["default"] for module in layers} == {1.0}


def test_a_file_of_several_ranks_has_to_say_what_it_is(folders, tmp_path):
    make_run(folders, train_section(), "single_lora_equal").variant.save(tmp_path, {"steps": "0"})
    assert load_variant(tiny_transformer(), tmp_path).name == "single_lora_equal"
    save_file(load_file(tmp_path / ADAPTER_FILE), tmp_path / ADAPTER_FILE, metadata={"steps": "0"})
    with pytest.raises(ValueError, match="no single LoRA of this base: ranks"):
        load_variant(tiny_transformer(), tmp_path)


def test_equal_runs_write_equal_files(folders, tmp_path):
    for name in ("one", "two"):
        torch.manual_seed(hash(name))
        make_run(folders, train_section(), "single_lora_equal").variant.save(tmp_path / name, {"steps": "0"})
    assert (tmp_path / "one" / ADAPTER_FILE).read_bytes() == (tmp_path / "two" / ADAPTER_FILE).read_bytes()
