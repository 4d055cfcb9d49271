"""Ten losses of every variant on a tiny random Kontext transformer, against a committed file.

They move only with a change of what training computes. Bit-equal on one machine; across machines sums are ordered
otherwise, and ten steps carry that to the digits that TOLERANCE leaves out. Made again by
`python -m tests.training.test_golden_baselines`.
"""

import json
import tempfile
from pathlib import Path

import pytest

from lorweb.training.step import take_step
from tests.training.made import make_run, train_section, write_data

GOLDEN = Path(__file__).parents[1] / "golden" / "baseline_losses.json"
VARIANTS = ("lorweb", "single_lora", "single_lora_equal", "basis_constant")
TOLERANCE = 1e-4  # relative


def losses(folders, name: str) -> list[float]:
    run = make_run(folders, train_section(), name)
    return [take_step(run, step).loss for step in range(10)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", VARIANTS)
def test_ten_losses_are_those_of_the_file(folders, name):
    expected = json.loads(GOLDEN.read_text())[name]
    found = losses(folders, name)
    assert len(expected) == 10 and found == pytest.approx(expected, rel=TOLERANCE)
    assert found == losses(folders, name), "the same machine gives the same bits"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = write_data(Path(folder))
        GOLDEN.write_text(json.dumps({name: losses(made, name) for name in VARIANTS}, indent=1) + "\n")
