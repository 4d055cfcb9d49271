"""The published checkpoint format: a safetensors file and a config.yaml beside it, tensor for tensor.

Legend: N LoRAs of rank r, K = N * r, I in_features, O out_features, d key width, Q query width.
Keys `transformer.<layer>.` + `lora_A` [N, I, r], `lora_B` [N, r, O], `lora_keys` [N, d], `att_lora_to_q.weight` [d, Q].
The scale is always 1: alpha is neither stored nor used.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
import yaml
from torch import Tensor, nn

from lorweb.basis.config import BasisConfig
from lorweb.basis.files import check_tensors, read_safetensors, write_safetensors, write_text
from lorweb.basis.inject import add_basis, basis_layers, router_of, target_sizes
from lorweb.basis.low_rank import rounded
from lorweb.basis.official_config import read_yaml, yaml_tree

PREFIX: Final = "transformer."
PARTS: Final = ("lora_A", "lora_B", "lora_keys", "att_lora_to_q.weight")
KEY: Final = re.compile(r"transformer\.(.+)\.(lora_A|lora_B|lora_keys|att_lora_to_q\.weight)")


def load_official(transformer: nn.Module, weights: Path, config: Path | BasisConfig) -> BasisConfig:
    """Add a basis and fill it from the published format; returns its config.

    `weights` is the file or its folder (the file without a step number, else the last step). `config` is the
    config.yaml, or a BasisConfig where that file is incomplete: nothing that changes the result is guessed.

    Raises:
        FileNotFoundError: no weights or no config there.
        ValueError: missing or unknown keys, shapes that disagree with the config or with the model, missing settings.
    """
    path = find_weights(weights)
    tensors, _ = read_safetensors(path)
    settings = config if isinstance(config, BasisConfig) else read_yaml(config, _sizes(path, tensors))
    _agree(path, settings, tensors)
    check_tensors(path, tensors, _shapes(settings, target_sizes(transformer, settings.targets)))
    add_basis(transformer, settings, seed=0)
    router = router_of(transformer)
    with torch.no_grad():
        for index, (name, layer) in enumerate(basis_layers(transformer).items()):
            A_NIr, B_NrO = tensors[f"{PREFIX}{name}.lora_A"], tensors[f"{PREFIX}{name}.lora_B"]
            layer.A.copy_(A_NIr.transpose(1, 2).reshape(layer.A.shape))
            layer.B.copy_(B_NrO.reshape(layer.B.shape[::-1]).T)
            router.keys[index].copy_(tensors[f"{PREFIX}{name}.lora_keys"])
            projection_dQ = router.projection_of(index)
            if projection_dQ is not None:
                projection_dQ.copy_(tensors[f"{PREFIX}{name}.att_lora_to_q.weight"])
    return settings


def read_official_config(weights: Path, config: Path) -> BasisConfig:
    """What the two files of a checkpoint say together, without a transformer. Raises as `load_official` does."""
    path = find_weights(weights)
    tensors, _ = read_safetensors(path)
    settings = read_yaml(config, _sizes(path, tensors))
    _agree(path, settings, tensors)
    return settings


def _check_shared(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a shared projection whose repetitions differ: training on elsewhere has parted them."""
    first, *others = sorted(key for key in tensors if key.endswith(f".{PARTS[3]}"))
    for key in others:
        if not torch.equal(tensors[key], tensors[first]):
            raise ValueError(f"{path}: '{key}' is not '{first}', so that no projection is shared; load it as 'linear'")


def save_official(
    transformer: nn.Module,
    folder: Path,
    name: str = "lorweb",
    dtype: torch.dtype = torch.float16,
    encoder: str | None = None,
    facts: Mapping[str, str] | None = None,
) -> tuple[Path, Path]:
    """Write `<name>.safetensors` and config.yaml; returns both paths. Atomic, file by file.

    The format is float16; values that came from it are written back bit for bit. `encoder` goes into the config as
    `external_query_model`; `facts`, and targets other than the default ones, into a section that only we read.

    Raises:
        ValueError: no basis, or a value overflows the dtype.
    """
    tensors = {key: rounded(value, dtype, f"'{key}'") for key, value in official_state(transformer).items()}
    weights, settings = folder / f"{name}.safetensors", folder / "config.yaml"
    write_safetensors(weights, tensors, {"format": "pt"})
    tree = yaml_tree(router_of(transformer).config, encoder, facts)
    write_text(settings, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
    return weights, settings


def official_state(transformer: nn.Module) -> dict[str, Tensor]:
    """The basis under the published names and in the published axis order, in its own dtype.

    The format has a projection for each layer: a shared one is written as often.
    """
    router = router_of(transformer)
    N, r = router.config.n_loras, router.config.rank
    tensors: dict[str, Tensor] = {}
    for index, (name, layer) in enumerate(basis_layers(transformer).items()):
        A_NrI, B_NrO = layer.A.detach().unflatten(0, (N, r)), layer.B.detach().T.unflatten(0, (N, r))
        parts = {"lora_A": A_NrI.transpose(1, 2), "lora_B": B_NrO, "lora_keys": router.keys[index].detach()}
        projection_dQ = router.projection_of(index)
        if projection_dQ is not None:
            parts["att_lora_to_q.weight"] = projection_dQ.detach().clone()  # safetensors refuses shared memory
        tensors |= {f"{PREFIX}{name}.{part}": value.contiguous() for part, value in parts.items()}
    return tensors


def find_weights(weights: Path) -> Path:
    """The file itself; in a folder the one final file, else the one with the highest step. Raises FileNotFoundError."""
    if not weights.is_dir():
        return weights
    files = sorted(weights.glob("*.safetensors"))
    final = [file for file in files if not re.search(r"_\d{9}$", file.stem)]
    if len(final) > 1:
        raise ValueError(f"{weights} holds several weights ({', '.join(f.name for f in final)}); name one of them")
    if not files:
        raise FileNotFoundError(f"no .safetensors file in {weights}")
    return final[0] if final else max(files, key=lambda file: file.stem[-9:])


def _shapes(config: BasisConfig, in_out: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    N, r, d = config.n_loras, config.rank, config.key_dim
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (width, out) in in_out.items():
        parts = {"lora_A": (N, width, r), "lora_B": (N, r, out), "lora_keys": (N, d)}
        if config.projection != "none":
            parts["att_lora_to_q.weight"] = (d, config.query_width(width))
        shapes |= {f"{PREFIX}{name}.{part}": shape for part, shape in parts.items()}
    return shapes


def _agree(path: Path, config: BasisConfig, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a config that the shapes contradict, before any layer is looked at."""
    if config.projection == "shared":
        _check_shared(path, tensors)
    found = _sizes(path, tensors)
    if config.internal:
        found.pop("query_dim", None)  # of one layer; each has its own
    for field, value in found.items():
        if getattr(config, field) != value:
            raise ValueError(f"{path}: its tensors say {field} = {value}, the config says {getattr(config, field)}")


def _sizes(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """What the shapes alone say: n_loras, rank, key_dim, and query_dim where there is a projection."""
    first: dict[str, Tensor] = {}
    for key in sorted(tensors):
        match = KEY.fullmatch(key)
        if match is None:
            raise ValueError(f"{path}: unknown key '{key}'; the format has transformer.<layer>.{{{', '.join(PARTS)}}}")
        first.setdefault(match[2], tensors[key])
    absent = [part for part in PARTS[:3] if part not in first or first[part].ndim != (2 if part == "lora_keys" else 3)]
    if absent:
        raise ValueError(f"{path}: no usable '{absent[0]}' tensor in it; is this the published format?")
    A_NIr, keys_Nd = first["lora_A"], first["lora_keys"]
    sizes = {"n_loras": A_NIr.shape[0], "rank": A_NIr.shape[2], "key_dim": keys_Nd.shape[1]}
    if PARTS[3] in first:
        shape = tuple(first[PARTS[3]].shape)
        if len(shape) != 2:
            raise ValueError(f"{path}: '{PARTS[3]}' has shape {shape}, not two axes; is this the published format?")
        sizes["query_dim"] = shape[1]
    return sizes
