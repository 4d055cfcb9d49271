"""Coefficient files: what goes in comes out, sums know their parents, and a file belongs to one basis."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import save_file

from lorweb.basis.mix_files import MixFile, Term, combine, load_mix, parse_terms, read_mix
from lorweb.basis.mixes import mix_hash, weighted_sum
from lorweb.data.manifest import file_sha256

FACTS = {"base": "tiny", "query_mode": "cat-aa'b", "pairs": [["a.png", "a2.png"]], "queries": ["b.png"]}
VALUES = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(-2, 2, width=32))
JSON = st.dictionaries(
    st.text(max_size=8).map("fact {}".format), st.none() | st.booleans() | st.integers() | st.text(max_size=8)
)
KIND = {"lorweb": '{"format": "lorweb-mix"}'}


@pytest.fixture
def basis(tmp_path: Path) -> Path:
    path = tmp_path / "basis.safetensors"
    path.write_bytes(b"stands for a basis: only its bytes count")
    return path


def saved(path: Path, seed: int, basis: Path, facts: dict[str, Any] | None = None) -> torch.Tensor:
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    MixFile(values, file_sha256(basis), FACTS if facts is None else facts).save(path)
    return values


@pytest.mark.slow
@settings(deadline=None)
@given(VALUES, JSON)
def test_a_file_gives_back_what_was_saved_in_equal_bytes(values: np.ndarray, facts: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        for path in (one, two):
            MixFile(torch.from_numpy(values), "ab" * 32, facts).save(path)
        assert one.read_bytes() == two.read_bytes()
        back = read_mix(one)
    np.testing.assert_array_equal(back.mix_LN.numpy(), values)
    assert back.facts == facts and back.basis_sha256 == "ab" * 32


def test_the_basis_is_known_by_its_bytes(basis: Path, tmp_path: Path) -> None:
    values = saved(tmp_path / "m", 0, basis)
    assert file_sha256(basis) == hashlib.sha256(basis.read_bytes()).hexdigest()
    assert torch.equal(load_mix(tmp_path / "m", basis), values)
    moved = basis.rename(tmp_path / "elsewhere")
    assert torch.equal(load_mix(tmp_path / "m", moved), values)
    before = file_sha256(moved)
    moved.write_bytes(moved.read_bytes() + b"!")
    with pytest.raises(ValueError, match=f"computed on the basis {before}, but .*elsewhere is {file_sha256(moved)}"):
        load_mix(tmp_path / "m", moved)


def test_a_sum_lists_its_parents_and_can_be_a_parent(basis: Path, tmp_path: Path) -> None:
    one, two = saved(tmp_path / "one", 1, basis), saved(tmp_path / "two", 2, basis, {**FACTS, "keep": 2})
    total = combine([Term(tmp_path / "one", 0.75), Term(tmp_path / "two", -0.5)], basis)
    assert torch.equal(total.mix_LN, weighted_sum([one, two], [0.75, -0.5]))
    assert (total.facts["base"], total.facts["query_mode"]) == ("tiny", "cat-aa'b")
    images = {"pairs": FACTS["pairs"], "queries": FACTS["queries"]}
    assert total.facts["parents"] == [
        {"mix": mix_hash(one), "weight": 0.75, **images},
        {"mix": mix_hash(two), "weight": -0.5, "keep": 2, **images},
    ]
    total.save(tmp_path / "total")
    grand = combine([Term(tmp_path / "total", 1.0)], basis)
    assert grand.facts["parents"][0]["parents"] == total.facts["parents"]
    assert grand.facts["parents"][0]["mix"] == mix_hash(total.mix_LN) and torch.equal(grand.mix_LN, total.mix_LN)


def test_a_sum_over_two_bases_is_refused(basis: Path, tmp_path: Path) -> None:
    saved(tmp_path / "one", 1, basis)
    other = tmp_path / "other"
    other.write_bytes(b"another basis")
    saved(tmp_path / "two", 2, other)
    with pytest.raises(
        ValueError, match=f"two was computed on the basis {file_sha256(other)}, but .* is {file_sha256(basis)}"
    ):
        combine([Term(tmp_path / "one", 0.5), Term(tmp_path / "two", 0.5)], basis)


def test_terms_are_all_weighted_or_none(tmp_path: Path) -> None:
    assert [term.weight for term in parse_terms(["a", "b"])] == [0.5, 0.5]
    assert [(str(term.path), term.weight) for term in parse_terms(["a:2", "b:-1"])] == [("a", 2.0), ("b", -1.0)]
    odd = tmp_path / "m:3"
    odd.touch()
    assert parse_terms([str(odd)]) == [Term(odd, 1.0)], "a file of that name comes before a weight"
    assert parse_terms([f"{odd}:2"]) == [Term(odd, 2.0)]
    for texts in (["a:2", "b"], ["a:nan"], ["a:1", "b:inf"]):
        with pytest.raises(ValueError, match="give every file a finite weight"):
            parse_terms(texts)


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        ({"mix": torch.zeros(2, 3)}, {}, "is no coefficient file; make one with"),
        ({"mix": torch.zeros(2, 3)}, {"lorweb": "{"}, "its metadata is no JSON"),
        ({"mix": torch.zeros(2, 3)}, {"lorweb": '{"format": "lorweb-basis"}'}, "is no coefficient file"),
        ({"mix": torch.zeros(2, 3)}, {"lorweb": "[1]"}, "is no coefficient file"),
        ({"mix": torch.zeros(6)}, {"lorweb": '{"format": "lorweb-mix"}'}, "is no coefficient file"),
        ({"A": torch.zeros(2, 3)}, {"lorweb": '{"format": "lorweb-mix"}'}, "is no coefficient file"),
        (
            {"mix": torch.full((2, 3), float("nan"))},
            {"lorweb": '{"format": "lorweb-mix"}'},
            "values that are not finite",
        ),
        ({"mix": torch.full((2, 3), 1e300, dtype=torch.float64)}, KIND, "not finite as float32"),
        (
            {"mix": torch.zeros(2, 3, dtype=torch.bool)},
            KIND,
            r"bool values of shape \[2, 3\], which are no coefficients",
        ),
        ({"mix": torch.zeros(2, 3, dtype=torch.int64)}, KIND, "int64 values"),
        ({"mix": torch.zeros(2, 3, dtype=torch.complex64)}, KIND, "complex64 values"),
        ({"mix": torch.zeros(0, 2)}, KIND, r"shape \[0, 2\]"),
        ({"mix": torch.zeros(2, 3)}, KIND, "but says that they are None"),
        ({"mix": torch.zeros(2, 3, dtype=torch.float8_e4m3fn)}, KIND, "but says that they are None"),
    ],
)
def test_other_files_are_refused(tensors: Any, metadata: Any, words: str, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "m", metadata)
    with pytest.raises(ValueError, match=words):
        read_mix(tmp_path / "m")


def test_changed_values_are_found_by_the_hash(basis: Path, tmp_path: Path) -> None:
    values = saved(tmp_path / "m", 0, basis)
    content = bytearray((tmp_path / "m").read_bytes())
    content[-1] ^= 0x80  # the sign of the last float32
    (tmp_path / "m").write_bytes(bytes(content))
    values[-1, -1] *= -1
    with pytest.raises(ValueError, match=f"m holds the coefficients {mix_hash(values)}, but says that they are"):
        load_mix(tmp_path / "m", basis)


def test_missing_and_cut_files_are_refused(basis: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no coefficient file .*; make one with `lorweb mix"):
        load_mix(tmp_path / "gone", basis)
    saved(tmp_path / "m", 0, basis)
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes()[:-5])
    with pytest.raises(ValueError, match="is truncated or no safetensors file"):
        load_mix(tmp_path / "m", basis)
