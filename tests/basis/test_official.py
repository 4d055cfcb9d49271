"""The published format: shapes and names from the table, axes checked against Eq. 5, both ways without loss."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorweb.basis import BasisConfig, analogy, basis_layers, mix
from lorweb.basis.checkpoint import load_official, save_official
from lorweb.basis.official import find_weights
from tests.basis.cases import config, queries, trained
from tests.tiny import tiny_inputs, tiny_transformer

N, R, D, Q = 4, 2, 8, 12


def published(folder: Path, sizes: dict[str, tuple[int, int]]) -> Path:
    """A file as the table describes it, written here without lorweb; returns the folder."""
    generator = torch.Generator().manual_seed(3)
    shapes = {"lora_A": ("n", "i", "r"), "lora_B": ("n", "r", "o"), "lora_keys": ("n", "d")}
    shapes["att_lora_to_q.weight"] = ("d", "q")
    tensors = {}
    for name, (width, out) in sizes.items():
        axes = {"n": N, "i": width, "o": out, "r": R, "d": D, "q": Q}
        for part, letters in shapes.items():
            drawn = torch.randn([axes[c] for c in letters], generator=generator) * 0.2
            tensors[f"transformer.{name}.{part}"] = drawn.half()
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "lorweb_model.safetensors")
    kwargs: dict[str, Any] = {
        "loras_num": N,
        "lora_keys_dim": D,
        "lora_heads": 2,
        "lora_softmax": False,
        "mixing_coeffs_type": "sum",
        "external_query": True,
        "pooling_type": "max",
        "query_projection_type": "linear",
        "external_query_model": "openai/clip-vit-large-patch14",
        "query_mode": "ca'-ca+cb",
    }
    network = {"type": "lora", "linear": R, "linear_alpha": 77, "network_kwargs": kwargs}
    tree = {"job": "extension", "config": {"name": "x", "process": [{"type": "t", "network": network}]}}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tiny_transformer(0)
    linear = torch.nn.Linear
    blocks = [(n, m) for n, m in model.named_modules() if isinstance(m, linear) and "transformer_blocks." in n]
    assert len(blocks) == 26
    return published(tmp_path / "official", {n: (m.in_features, m.out_features) for n, m in blocks})


def test_the_axes_mean_what_eq_5_says(folder: Path) -> None:
    model = tiny_transformer(0)
    settings = load_official(model, folder, folder / "config.yaml")
    assert (settings.n_loras, settings.rank, settings.key_dim, settings.query_dim) == (N, R, D, Q)
    assert (settings.heads, settings.activation, settings.reduce) == (2, "tanh", "sum")
    assert settings.query_mode == "ca'-ca+cb"
    tensors = {k: v.double() for k, v in load_file(folder / "lorweb_model.safetensors").items()}
    query_BQ = queries(2, settings)
    e_BLN = mix(model, query_BQ).detach().double()
    for index, (name, layer) in enumerate(basis_layers(model).items()):
        part = {p: tensors[f"transformer.{name}.{p}"] for p in ("lora_A", "lora_B", "lora_keys")}
        P = tensors[f"transformer.{name}.att_lora_to_q.weight"]
        q_BHW = (query_BQ.double() @ P.T).view(2, 2, D // 2)
        scores = torch.einsum("bhw,nhw->bhn", q_BHW, part["lora_keys"].view(N, 2, D // 2)) / (D // 2) ** 0.5
        torch.testing.assert_close(e_BLN[:, index], scores.tanh().sum(1).clamp(-1, 1), rtol=1e-4, atol=1e-5)
        x = torch.randn(2, 3, layer.in_features)
        with analogy(model, query_BQ):
            change = (layer(x) - layer.base(x)).detach().double()
        h = torch.einsum("bsi,nir->bsnr", x.double(), part["lora_A"])
        expected = torch.einsum("bsnr,nro,bn->bso", h, part["lora_B"], e_BLN[:, index])
        torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-4)


def test_the_round_trip_is_tensor_for_tensor(folder: Path, tmp_path: Path) -> None:
    model = tiny_transformer(0)
    settings = load_official(model, folder / "lorweb_model.safetensors", folder / "config.yaml")
    weights, yaml_path = save_official(model, tmp_path / "out", encoder="openai/clip-vit-large-patch14")
    before, after = load_file(folder / "lorweb_model.safetensors"), load_file(weights)
    assert before.keys() == after.keys() and len(after) == 4 * 26
    assert all(torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in before)
    network = yaml.safe_load(yaml_path.read_text(encoding="utf-8"))["config"]["process"][0]["network"]
    assert network["linear"] == R and network["network_kwargs"]["external_query_model"].endswith("patch14")
    other = tiny_transformer(0)
    assert load_official(other, tmp_path / "out", yaml_path) == settings
    with analogy(model, queries(2, settings)), analogy(other, queries(2, settings)):
        assert torch.equal(model(**tiny_inputs(2, 8)).sample, other(**tiny_inputs(2, 8)).sample)


def test_without_a_projection_three_tensors_per_layer(tmp_path: Path) -> None:
    model, settings = tiny_transformer(0), config(projection="none", query_dim=8)
    trained(model, settings)
    weights, yaml_path = save_official(model, tmp_path, dtype=torch.float32)
    assert len(load_file(weights)) == 3 * 26
    assert load_official(tiny_transformer(0), weights, yaml_path) == settings


def test_values_too_large_for_float16_are_refused(tmp_path: Path) -> None:
    model = tiny_transformer(0)
    trained(model, config())
    with torch.no_grad():
        basis_layers(model)["transformer_blocks.0.attn.to_q"].B[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"transformer_blocks.0.attn.to_q.lora_B' reaches 1e\+06"):
        save_official(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    save_official(model, tmp_path / "out", dtype=torch.float32)


def change_weights(folder: Path, edit: dict[str, Tensor | None]) -> None:
    tensors = load_file(folder / "lorweb_model.safetensors") | edit
    kept = {k: v for k, v in tensors.items() if v is not None}
    save_file(kept, folder / "lorweb_model.safetensors")


def test_weights_that_do_not_fit_are_named(folder: Path) -> None:
    key = "transformer.transformer_blocks.0.attn.to_q.lora_A"
    path = folder / "lorweb_model.safetensors"
    good, A = path.read_bytes(), load_file(path)[key]
    faults: list[tuple[dict[str, Tensor | None], str]] = [
        ({key: None}, rf"1 keys are missing \(first: '{key}'\)"),
        ({"transformer.proj_out.lora_A": A}, r"1 keys are unknown \(first: 'transformer.proj_out.lora_A'\)"),
        ({key + ".weight": A}, rf"unknown key '{key}.weight'; the format has"),
        ({key: A.transpose(1, 2).contiguous()}, rf"'{key}' has shape \(4, 2, 32\), this model needs \(4, 32, 2\)"),
    ]
    for edit, message in faults:
        path.write_bytes(good)
        change_weights(folder, edit)
        model = tiny_transformer(0)
        with pytest.raises(ValueError, match=message):
            load_official(model, folder, folder / "config.yaml")
        assert len(model.state_dict()) == len(tiny_transformer(0).state_dict())


@pytest.mark.slow
def test_settings_are_never_guessed(folder: Path) -> None:
    path, weights = folder / "config.yaml", folder / "lorweb_model.safetensors"
    whole = yaml.safe_load(path.read_text(encoding="utf-8"))
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    kwargs = tree["config"]["process"][0]["network"]["network_kwargs"]
    edits: list[tuple[dict[str, Any], str]] = [
        ({"lora_softmax": None, "query_mode": None}, "lacks lora_softmax, query_mode"),
        ({"lora_softmax": "False"}, "network_kwargs.lora_softmax is 'False': input should be a valid boolean"),
        ({"external_query": "false"}, "network_kwargs.external_query is 'false': input should be a valid boolean"),
        ({"loras_num": 32}, "n_loras = 32, the tensors say 4"),
        ({"lora_softmx": True}, "unknown key 'lora_softmx' in network_kwargs; did you mean 'lora_softmax'"),
        ({"loras_num": "4"}, "network_kwargs.loras_num is '4': input should be a valid integer"),
        ({"lora_heads": 3}, "key_dim 8 is not divisible by heads 3"),
        (
            {"query_projection_type": "x"},
            "network_kwargs.query_projection_type is 'x': input should be 'linear' or 'none'",
        ),
        ({"external_query": False, "pooling_type": None}, "lacks pooling_type"),
        ({"external_query": False}, "unknown internal query_mode"),
        ({"query_mode": "paab"}, "did you mean 'paa'b'"),
    ]
    for edit, message in edits:
        changed = {k: v for k, v in (kwargs | edit).items() if v is not None}
        tree["config"]["process"][0]["network"]["network_kwargs"] = changed
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            load_official(tiny_transformer(0), folder, path)
    for content, message in (
        (b"a: [", "is not YAML"),
        (b"a: \xff", r"is not UTF-8 \(byte 3\)"),
        (b"[" * 3000, "is not YAML"),
        (b"5", "holds 5, not a mapping"),
        (b"a: !!timestamp x", "is not YAML"),
        (b'a: !!int ""', "is not YAML"),
        (b"a: 2026-99-99", "is not YAML"),
        (b"config: {}", r"has no config.process\[0\].network"),
        (b"config: {process: [{network: {network_kwargs: 5}}]}", "network_kwargs is 5, not a mapping"),
        (yaml.safe_dump(whole | {"lorweb": 5}).encode(), "lorweb is 5, not a mapping"),
        (
            yaml.safe_dump(whole | {"lorweb": {"targets": 5}}).encode(),
            "lorweb.targets is 5: input should be a valid tuple",
        ),
        (yaml.safe_dump(whole | {"lorweb": {"tagets": []}}).encode(), "did you mean 'targets'"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as refused:
            load_official(tiny_transformer(0), folder, path)
        assert len(str(refused.value).splitlines()) == 1 and str(path) in str(refused.value)
    with pytest.raises(FileNotFoundError, match="no config at"):
        load_official(tiny_transformer(0), folder, folder / "absent.yaml")
    right = BasisConfig.model_validate(config(heads=2, activation="tanh", reduce="sum").model_dump())
    assert load_official(tiny_transformer(0), weights, right) == right
    with pytest.raises(ValueError, match="its tensors say rank = 2, the config says 4"):
        load_official(tiny_transformer(0), weights, config(rank=4))


def test_a_folder_gives_its_final_weights_or_its_last_step(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors file"):
        find_weights(tmp_path)
    for name in ("m_000000250", "m_000001000", "m_000000500"):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    assert find_weights(tmp_path).stem == "m_000001000"
    save_file({"x": torch.zeros(1)}, tmp_path / "m.safetensors")
    assert find_weights(tmp_path).stem == "m"
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"several weights \(m.safetensors, other.safetensors\)"):
        find_weights(tmp_path)
