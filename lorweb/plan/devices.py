"""Devices as their makers describe them: dense peaks, without sparsity. Bytes per second, FLOP per second."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Device:
    """memory: bytes. bfloat16: with float32 sums; float32: without TF32, which training leaves off. bandwidth: of the
    device's memory. link: between devices of one machine, one way. host: to host memory, one way, as usually reached.
    """

    memory: float
    bfloat16: float
    float32: float
    bandwidth: float
    link: float
    host: float


DEVICES: Final[dict[str, Device]] = {
    "h100": Device(80e9, 989e12, 67e12, 3.35e12, 450e9, 50e9),
    "h200": Device(141e9, 989e12, 67e12, 4.8e12, 450e9, 50e9),
    "b200": Device(180e9, 2250e12, 75e12, 7.7e12, 900e9, 50e9),
    "a100": Device(80e9, 312e12, 19.5e12, 2.0e12, 300e9, 25e9),
    "l40s": Device(48e9, 362e12, 91.6e12, 0.864e12, 25e9, 25e9),
    "a6000": Device(48e9, 154.8e12, 38.7e12, 0.768e12, 25e9, 25e9),
    "5090": Device(32e9, 209.5e12, 104.8e12, 1.79e12, 50e9, 50e9),
    "4090": Device(24e9, 165.2e12, 82.6e12, 1.008e12, 25e9, 25e9),
    "3090": Device(24e9, 71e12, 35.6e12, 0.936e12, 25e9, 25e9),
    "cpu": Device(16e9, 0.1e12, 0.1e12, 20e9, 1e9, 20e9),  # two cores with AVX2, about
}


def device(name: str) -> Device:
    """One of `DEVICES`. Raises ValueError for another name, with the nearest."""
    import difflib

    if name not in DEVICES:
        near = difflib.get_close_matches(name.lower(), DEVICES, n=1, cutoff=0.0)[0]
        raise ValueError(f"no device '{name}' is known, nearest: {near}; there are {', '.join(DEVICES)}")
    return DEVICES[name]
