"""Losses of ten steps on the CPU, pinned: a change of them is a change of what training computes.

python -m tests.training.golden      measures them again into tests/golden/train_losses.json; say in the commit why
"""

import json
import platform
from pathlib import Path
from typing import Any, Final

import torch

from lorweb.records import stable_id
from lorweb.training.step import take_step
from tests.training.made import Folders, make_run, train_section, write_data

FILE: Final = Path(__file__).parents[1] / "golden" / "train_losses.json"
STEPS: Final = 10
TOLERANCE: Final = 2e-3  # relative, across machines: ten steps at a high learning rate let rounding grow
VARIANTS: Final = ("lorweb", "single_lora")


def machine() -> dict[str, str]:
    """What decides the bits: where all of it is equal, so are they."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    facts = ("cpu family", "model", "model name", "stepping", "flags")  # libraries choose their kernels by flags
    cpu = stable_id(*(told.get(fact, platform.processor()) for fact in facts))
    capability = torch.backends.cpu.get_cpu_capability()
    return {"cpu": cpu, "capability": capability, "torch": torch.__version__}


def measure(folders: Folders) -> dict[str, list[float]]:
    """Losses of every variant, in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runs = {name: make_run(folders, train_section(), name) for name in VARIANTS}
        return {name: [take_step(run, step).loss for step in range(STEPS)] for name, run in runs.items()}
    finally:
        torch.set_num_threads(threads)


def read() -> dict[str, Any]:
    """The pinned losses, and the machine they were measured on."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        told = {"machine": machine(), "losses": measure(write_data(Path(root)))}
    FILE.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
