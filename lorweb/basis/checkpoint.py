"""Our own checkpoint: one safetensors file that says everything needed to use it.

Keys: `<layer>.A` [N*r, in], `<layer>.B` [out, N*r], `router.keys` [L, N, d], `router.projection` [L, d, D_q] ([1, d,
D_q] if shared; `router.projection.<i>` [d, in] of layer i for internal queries; absent with projection "none").
The metadata holds one JSON object: format, schema, config, layer names, content hash, and the caller's `extra`
(base revision, catalogue hash, encoder, ...).
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lorweb.basis.config import BasisConfig
from lorweb.basis.files import check_tensors, read_metadata, read_safetensors, write_safetensors
from lorweb.basis.header import SCHEMA, Header, read_header
from lorweb.basis.inject import add_basis, basis_layers, has_basis, router_of, target_sizes
from lorweb.basis.official import load_official, save_official

__all__ = ["load", "load_official", "read_config", "save", "save_official"]


def save(transformer: nn.Module, path: Path, extra: Mapping[str, str]) -> None:
    """Write the basis, in its own dtype, and all of its settings. Atomic; equal inputs give equal bytes.

    Raises:
        ValueError: no basis.
        OSError: the file cannot be written; none is left half-written.
    """
    router, tensors = router_of(transformer), state(transformer)
    layers, digest = list(router.layer_names), _digest(tensors)
    header = Header(schema=SCHEMA, config=router.config, layers=layers, sha256=digest, extra=dict(extra))
    write_safetensors(path, tensors, {"lorweb": header.text()})


def load(transformer: nn.Module, path: Path) -> tuple[BasisConfig, dict[str, str]]:
    """Fill the transformer's basis from a file, adding one first if it has none; returns the config and `extra`.

    The parameters keep the dtype they have (float32 when the basis is added here). Nothing is changed if it fails.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated or damaged file, other format or schema, another config than the basis in place, or keys,
            shapes or dtypes that do not fit; the message names the key and both shapes.
    """
    tensors, metadata = read_safetensors(path)
    header = read_header(path, metadata)
    config = header.config
    present = has_basis(transformer)
    if present and router_of(transformer).config != config:
        there = router_of(transformer).config
        raise ValueError(f"{path} was made with {config}, the basis in place has {there}; call remove_basis first")
    sizes = target_sizes(transformer, config.targets)
    check_tensors(path, tensors, _shapes(config, sizes))
    if header.layers != list(sizes):
        raise ValueError(f"{path} holds its layers in another order than this model; was it made for another base?")
    if _digest(tensors) != header.sha256:
        raise ValueError(f"{path} is damaged: its tensors do not match the hash written with them; use another copy")
    if not present:
        add_basis(transformer, config, seed=0)
    with torch.no_grad():
        for key, parameter in _parameters(transformer).items():
            parameter.copy_(tensors[key])
    return config, dict(header.extra)


def read_config(path: Path) -> tuple[BasisConfig, dict[str, str]]:
    """Config and `extra` of a file, without a model. Raises as `load` does."""
    header = read_header(path, read_metadata(path))
    return header.config, dict(header.extra)


def state(transformer: nn.Module) -> dict[str, Tensor]:
    """The basis as {key: tensor}, detached; the keys of the file."""
    return {key: parameter.detach() for key, parameter in _parameters(transformer).items()}


def _parameters(transformer: nn.Module) -> dict[str, nn.Parameter]:
    layers, router = basis_layers(transformer), router_of(transformer)
    found = {f"{name}.{part}": getattr(layer, part) for name, layer in layers.items() for part in ("A", "B")}
    return found | {f"router.{name}": parameter for name, parameter in router.named_parameters()}


def _shapes(config: BasisConfig, in_out: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    """{key: shape} that a file of this config has to have."""
    K, L = config.total_rank, len(in_out)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (width, out) in in_out.items():
        shapes |= {f"{name}.A": (K, width), f"{name}.B": (out, K)}
    shapes["router.keys"] = (L, config.n_loras, config.key_dim)
    if config.projection != "none" and config.query_dim is not None:
        shapes["router.projection"] = (L if config.projection == "linear" else 1, config.key_dim, config.query_dim)
    elif config.projection != "none":
        widths = enumerate(width for width, _ in in_out.values())
        shapes |= {f"router.projection.{index}": (config.key_dim, width) for index, width in widths}
    return shapes


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
