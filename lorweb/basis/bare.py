"""A trained basis without its base: looking at atoms and coefficients needs none of the base's gigabytes."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from lorweb.basis import checkpoint


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
    checkpoint.read_config(path)  # what the file is, in one sentence, before its inside is trusted
    tree = nn.Module()
    for name, (in_features, out_features) in _sizes(path).items():
        parent = tree
        *folders, last = name.split(".")
        for folder in folders:
            if folder not in parent._modules:
                parent.add_module(folder, nn.Module())
            parent = parent.get_submodule(folder)
        parent.add_module(last, Socket(in_features, out_features))
    checkpoint.load(tree, path)
    return tree.requires_grad_(False)


def _sizes(path: Path) -> dict[str, tuple[int, int]]:
    """{layer name: (in_features, out_features)} in the order of the basis; `load` refuses a layer without factors."""
    with safe_open(path, framework="pt") as file:
        keys = set(file.keys())
        layers = json.loads(file.metadata()["lorweb"])["layers"]
        whole = [name for name in layers if {f"{name}.A", f"{name}.B"} <= keys]
        return {
            name: (file.get_slice(f"{name}.A").get_shape()[-1], file.get_slice(f"{name}.B").get_shape()[0])
            for name in whole
        }
