"""Odd headers of our own files: one sentence with the file's name, never a traceback of another kind."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lorweb.basis.bare import load_bare
from lorweb.basis.checkpoint import load, read_config, save
from lorweb.basis.files import read_metadata
from lorweb.basis.header import read_header
from tests.basis.cases import config, trained
from tests.tiny import tiny_transformer


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_transformer(0)
    trained(model, config())
    path = tmp_path_factory.mktemp("good") / "b.safetensors"
    save(model, path, {"seed": "3"})
    return path


def header(good: Path) -> dict:
    found: dict = json.loads(read_metadata(good)["lorweb"])
    return found


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"extra": 5}, "extra is 5: input should be an object"),
        ({"extra": {"seed": 3}}, "extra.seed is 3: input should be a valid string"),
        ({"layers": 5}, "layers is 5: input should be a valid array"),
        ({"layers": []}, "layers is []: list should have at least 1 item"),
        ({"layers": ["a..b"]}, "layers.0 is 'a..b': string should match pattern"),
        ({"sha256": None}, "sha256 is None: input should be a valid string"),
        ({"schema": "1"}, "has schema '1', this version reads 1"),
        ({"more": 1}, "unknown key 'more'"),
        ({"config": {}}, "missing key 'config.n_loras'"),
        ({"config": 5}, "config is 5"),
    ],
)
def test_a_header_of_odd_values_is_named_with_its_field(good: Path, tmp_path: Path, edit: dict, words: str) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(load_file(good), path, {"lorweb": json.dumps(header(good) | edit)})
    for read in (load_bare, read_config, lambda p: load(tiny_transformer(0), p)):
        with pytest.raises(ValueError) as refused:
            read(path)
        text = str(refused.value)
        assert words in text and str(path) in text and len(text.splitlines()) == 1


@pytest.mark.parametrize("text", ["[]", "5", "null", '"x"', "[" * 200_000, "{", ""])
def test_a_header_that_is_no_object_is_no_checkpoint(good: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"not an object|no JSON|is no lorweb checkpoint"):
        read_header(good, {"lorweb": text})


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["format", "schema", "config", "layers", "sha256", "extra", "x"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists),
    )
)
def test_whatever_it_holds_only_a_sentence_comes_out(tmp_path_factory: pytest.TempPathFactory, edit: dict) -> None:
    whole = {"format": "lorweb-basis", "schema": 1, "config": config().model_dump(mode="json")}
    whole |= {"layers": ["a.b"], "sha256": "0", "extra": {}}
    try:
        read_header(Path("some.safetensors"), {"lorweb": json.dumps(whole | edit)})
    except ValueError as error:
        assert str(error).startswith("some.safetensors") and "\n" not in str(error)


def test_equal_headers_are_equal_bytes(good: Path) -> None:
    text = read_metadata(good)["lorweb"]
    assert read_header(good, {"lorweb": text}).text() == text


@pytest.mark.parametrize("name", ["forward", "training", "x.forward", "_modules", "blocks.add_module"])
def test_a_layer_with_a_name_that_no_module_can_have_is_refused(good: Path, tmp_path: Path, name: str) -> None:
    tensors = load_file(good)
    first = header(good)["layers"][0]
    own = f"{first}."
    renamed = {f"{name}.{key.removeprefix(own)}" if key.startswith(own) else key: v for key, v in tensors.items()}
    layers = [name, *header(good)["layers"][1:]]
    save_file(renamed, tmp_path / "odd.safetensors", {"lorweb": json.dumps(header(good) | {"layers": layers})})
    with pytest.raises(ValueError, match=r"has a part '.*' that no module can have"):
        load_bare(tmp_path / "odd.safetensors")


def test_long_values_are_shortened(good: Path) -> None:
    with pytest.raises(ValueError, match=r"config is \[0, 0.* \.\.\. ") as refused:
        read_header(good, {"lorweb": json.dumps(header(good) | {"config": [0] * 100_000})})
    assert len(str(refused.value)) < 400
