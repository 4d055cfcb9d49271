"""A trained basis without its base: looking at atoms and coefficients needs none of the base's gigabytes."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from lorweb.basis import checkpoint
from lorweb.basis.files import read_metadata
from lorweb.basis.header import read_header


class Socket(nn.Module):
    """Stands where a linear layer was: its widths, and no weights."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("place", torch.empty(0), persistent=False)  # a basis goes to the device of what it wraps


def load_bare(path: Path) -> nn.Module:
    """A module tree of empty layers that carries the basis of a file, on the CPU.

    `mix`, `basis_layers`, `health` and `bake` take it as they take a transformer; it cannot run forward.

    Raises:
        FileNotFoundError, ValueError: see `lorweb.basis.checkpoint.load`.
    """
    header = read_header(path, read_metadata(path))
    tree = nn.Module()
    for name, (in_features, out_features) in _sizes(path, header.layers).items():
        parent = tree
        *folders, last = name.split(".")
        for part in (*folders, last):
            if hasattr(nn.Module, part) or part in tree.__dict__:
                raise ValueError(
                    f"{path}: layer '{name}' has a part '{part}' that no module can have; use another copy"
                )
        for folder in folders:
            if folder not in parent._modules:
                parent.add_module(folder, nn.Module())
            parent = parent.get_submodule(folder)
        parent.add_module(last, Socket(in_features, out_features))
    checkpoint.load(tree, path)
    return tree.requires_grad_(False)


def _sizes(path: Path, layers: list[str]) -> dict[str, tuple[int, int]]:
    """{layer name: (in_features, out_features)} in the order of the basis.

    Raises:
        ValueError: a layer without its two factors, or a factor that is no matrix.
    """
    with safe_open(path, framework="pt") as file:
        keys = set(file.keys())
        sizes = {}
        for name in layers:
            shapes: dict[str, list[int]] = {}
            for part in ("A", "B"):
                key = f"{name}.{part}"
                shapes[part] = file.get_slice(key).get_shape() if key in keys else []
                if len(shapes[part]) != 2:
                    told = f"has shape {tuple(shapes[part])}, not two axes" if key in keys else "is missing"
                    raise ValueError(f"{path}: '{key}' {told}; use another copy")
            sizes[name] = (shapes["A"][1], shapes["B"][0])
        return sizes
