"""int8 weights, in a process of their own: with torchao in reach, PEFT and diffusers behave differently for good."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("quantised_cases.py")


@pytest.mark.slow
def test_a_basis_on_int8_weights() -> None:
    beside = Path(sys.prefix) / "quant"
    assert (beside / "torchao").is_dir() or importlib.util.find_spec("torchao"), "no torchao here; run ./setup.sh"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(beside), str(CASES.parents[2])])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout + done.stderr
