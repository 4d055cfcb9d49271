"""8-bit moments, in processes of their own: with torchao in reach, PEFT and diffusers behave differently for good."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("eight_bit_cases.py")
BESIDE = Path(sys.prefix) / "quant"


def installed(module: str) -> bool:
    return (BESIDE / module).is_dir() or importlib.util.find_spec(module) is not None


def run_cases(optimizer: str) -> None:
    path = os.pathsep.join([str(BESIDE), str(CASES.parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "LORWEB_TEST_OPTIMIZER": optimizer}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_moments_of_torchao() -> None:
    assert installed("torchao"), "no torchao here; run ./setup.sh"
    run_cases("adamw_8bit")


@pytest.mark.slow
@pytest.mark.skipif(not installed("bitsandbytes"), reason="pip install 'bitsandbytes>=0.50' to run it")
def test_moments_of_bitsandbytes() -> None:
    run_cases("adamw_8bit_bitsandbytes")
