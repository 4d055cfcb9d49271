"""Our own file: exact, self-describing, atomic, and strict."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorweb.basis import add_basis, analogy, basis_layers
from lorweb.basis.checkpoint import load, read_config, save, state
from lorweb.basis.files import read_safetensors
from tests.basis.cases import config, queries, trained
from tests.tiny import tiny_inputs, tiny_transformer

EXTRA = {"base_revision": "abc", "catalogue": "def"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = tiny_transformer(0)
    trained(model, config(heads=2, activation="tanh"))
    save(model, tmp_path / "deep" / "basis.safetensors", EXTRA)
    return tmp_path / "deep" / "basis.safetensors"


def rewrite(path: Path, **changes: torch.Tensor | None) -> None:
    """Change or delete tensors of a file and keep its metadata."""
    tensors, metadata = read_safetensors(path)
    for key, value in changes.items():
        if value is None:
            del tensors[key]
        else:
            tensors[key] = value.contiguous()
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_loaded_model_gives_the_same_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    model, other = tiny_transformer(0), tiny_transformer(0)
    settings = config(targets=("*.attn.to_q", "*.norm.linear"))
    trained(model, settings)
    for module in (*basis_layers(model).values(), model.basis_router):
        for name in ("A", "B", "keys", "projection"):
            if isinstance(getattr(module, name, None), torch.nn.Parameter):
                setattr(module, name, torch.nn.Parameter(getattr(module, name).to(dtype).float()))
    save(model, tmp_path / "basis.safetensors", EXTRA)
    assert load(other, tmp_path / "basis.safetensors") == (settings, EXTRA)
    assert read_config(tmp_path / "basis.safetensors") == (settings, EXTRA)
    with analogy(model, queries(2, settings)), analogy(other, queries(2, settings)):
        assert torch.equal(model(**tiny_inputs(2, 8)).sample, other(**tiny_inputs(2, 8)).sample)


def test_a_low_precision_basis_is_written_as_it_is(tmp_path: Path) -> None:
    model = tiny_transformer(0)
    trained(model, config())
    model.to(torch.bfloat16)
    save(model, tmp_path / "b.safetensors", {})
    assert {t.dtype for t in load_file(tmp_path / "b.safetensors").values()} == {torch.bfloat16}
    other = tiny_transformer(0)
    load(other, tmp_path / "b.safetensors")
    assert all(torch.equal(v.float(), state(other)[k]) for k, v in state(model).items())
    assert state(other)["router.keys"].dtype == torch.float32


def test_equal_models_are_equal_bytes(saved: Path, tmp_path: Path) -> None:
    model = tiny_transformer(0)
    load(model, saved)
    again = tmp_path / "again.safetensors"
    save(model, again, dict(reversed(EXTRA.items())))
    assert again.read_bytes() == saved.read_bytes()
    assert sorted(p.name for p in saved.parent.iterdir()) == ["basis.safetensors"], "a temporary file is left"


def test_it_fills_a_basis_in_place_and_refuses_another_one(saved: Path) -> None:
    model = tiny_transformer(0)
    add_basis(model, config(heads=2, activation="tanh"), seed=9)
    load(model, saved)
    assert torch.equal(state(model)["router.keys"], load_file(saved)["router.keys"])
    other = tiny_transformer(0)
    add_basis(other, config(), seed=9)
    before = {key: value.clone() for key, value in state(other).items()}
    with pytest.raises(ValueError, match=r"activation='tanh'.*activation='softmax'.*remove_basis"):
        load(other, saved)
    assert all(torch.equal(before[key], value) for key, value in state(other).items())


def test_damage_is_named(saved: Path) -> None:
    key, good = "transformer_blocks.0.attn.to_q.A", saved.read_bytes()
    A = load_file(saved)[key]
    faults = [
        ({key: None}, rf"1 keys are missing \(first: '{key}'\)"),
        ({"transformer_blocks.9.x.A": A}, r"1 keys are unknown \(first: 'transformer_blocks.9.x.A'\)"),
        ({key: A[:, :5]}, rf"'{key}' has shape \(8, 5\), this model needs \(8, 32\)"),
        ({key: A.to(torch.int32)}, rf"'{key}' is torch.int32"),
        ({key: A / 0}, rf"'{key}' holds values that are not finite"),
        ({key: A + 1}, "do not match the hash"),
    ]
    for changes, message in faults:
        saved.write_bytes(good)
        rewrite(saved, **changes)
        model = tiny_transformer(0)
        with pytest.raises(ValueError, match=message):
            load(model, saved)
        assert not any(p.endswith(".B") for p, _ in model.named_parameters()), "a refused file changed the model"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"basis\.safetensors is truncated or no safetensors file"):
        load(tiny_transformer(0), saved)


def test_foreign_files_are_refused(saved: Path, tmp_path: Path) -> None:
    tensors = load_file(saved)
    foreign = {
        "no lorweb checkpoint": {"format": "pt"},
        "metadata is no JSON": {"lorweb": "{"},
        "has schema 99": {"lorweb": '{"format": "lorweb-basis", "schema": 99}'},
        "missing key 'config'": {"lorweb": '{"format": "lorweb-basis", "schema": 1}'},
    }
    for message, metadata in foreign.items():
        save_file(tensors, tmp_path / "foreign.safetensors", metadata)
        with pytest.raises(ValueError, match=message):
            load(tiny_transformer(0), tmp_path / "foreign.safetensors")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load(tiny_transformer(0), tmp_path / "absent.safetensors")


@pytest.mark.slow
def test_the_config_is_read_without_the_tensors(tmp_path: Path) -> None:
    """Of a file of 400 MB, in less memory than its tensors: the file is sparse, only its header was written."""
    header = {"format": "lorweb-basis", "schema": 1, "config": config().model_dump(mode="json")}
    header |= {"layers": ["x"], "sha256": "", "extra": {"seed": "3"}}
    size = 400_000_000
    whole = {"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    text = json.dumps(whole | {"__metadata__": {"lorweb": json.dumps(header)}}).encode()
    path = tmp_path / "large.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + size)
    code = (
        "import resource, sys; from pathlib import Path; from lorweb.basis.checkpoint import read_config;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "before = peak(); print(read_config(Path(sys.argv[1]))[1]['seed'], (peak() - before) * 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    seed, grown = done.stdout.split()
    assert seed == "3" and int(grown) < size // 4


def test_layers_in_another_order_are_refused(saved: Path) -> None:
    """The router's rows follow the layers: another order would give every layer a foreign router."""
    tensors, metadata = read_safetensors(saved)
    header = json.loads(metadata["lorweb"])
    header["layers"].reverse()
    save_file(tensors, saved, {"lorweb": json.dumps(header)})
    with pytest.raises(ValueError, match="in another order"):
        load(tiny_transformer(0), saved)


def test_another_base_is_refused(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"6 keys are missing|12 keys are missing"):
        load(tiny_transformer(0, single=3), saved)
    with pytest.raises(ValueError, match=r"has shape \(8, 32\), this model needs \(8, 48\)"):
        load(tiny_transformer(0, heads=3), saved)


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = saved.read_bytes()
    model = tiny_transformer(0)
    trained(model, config())
    broken = saved.parent / "folder"
    broken.mkdir()
    with pytest.raises(OSError):
        save(model, broken, {})  # a folder is in the way of the rename
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        save(model, saved, {})
    assert saved.read_bytes() == good
    assert sorted(p.name for p in saved.parent.iterdir()) == ["basis.safetensors", "folder"]
