"""Optimisers and quantised weights that live in packages of their own, and what to say where one is missing.

Light: the driver asks first.
"""

from importlib.util import find_spec
from typing import Final

PACKAGES: Final = {  # optimiser -> (module, requirement); the extras of pyproject.toml say the same
    "adamw_8bit": ("torchao", "torchao>=0.16"),
    "adamw_8bit_bitsandbytes": ("bitsandbytes", "bitsandbytes>=0.50"),
    "prodigy": ("prodigyopt", "prodigyopt>=1.1"),
}

BASE_PACKAGES: Final = {"int8": PACKAGES["adamw_8bit"], "nf4": PACKAGES["adamw_8bit_bitsandbytes"]}


def require_base_package(weights: str) -> None:
    """Raises ValueError, with the pip command, if the package that quantises the base so is not installed."""
    if weights in BASE_PACKAGES:
        _require(BASE_PACKAGES[weights], f"base_weights '{weights}'", "train.base_weights to full")


def require_package(optimizer: str) -> None:
    """Raises ValueError, with the pip command, if the package of an optimiser is not installed."""
    if optimizer in PACKAGES:
        _require(PACKAGES[optimizer], f"optimizer '{optimizer}'", "train.optimizer.name to adamw_fused")


def _require(package: tuple[str, str], what: str, instead: str) -> None:
    module, requirement = package
    if find_spec(module) is None:
        raise ValueError(
            f"{what} needs the package {module}, which is not installed; run `pip install '{requirement}'` on every "
            f"machine that trains, or set {instead}"
        )
