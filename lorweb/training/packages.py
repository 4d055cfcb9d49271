"""Optimisers that live in packages of their own, and what to say where one is missing. Light: the driver asks first."""

from importlib.util import find_spec
from typing import Final

PACKAGES: Final = {  # optimiser -> (module, requirement); the extras of pyproject.toml say the same
    "adamw_8bit": ("torchao", "torchao>=0.16"),
    "adamw_8bit_bitsandbytes": ("bitsandbytes", "bitsandbytes>=0.50"),
    "prodigy": ("prodigyopt", "prodigyopt>=1.1"),
}


def require_package(optimizer: str) -> None:
    """Raises ValueError, with the pip command, if the package of an optimiser is not installed."""
    module, requirement = PACKAGES.get(optimizer, ("", ""))
    if module and find_spec(module) is None:
        raise ValueError(
            f"optimizer '{optimizer}' needs the package {module}, which is not installed; run "
            f"`pip install '{requirement}'` on every machine that trains, or set train.optimizer.name to adamw_fused"
        )
