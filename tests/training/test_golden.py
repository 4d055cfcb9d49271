import pytest

from tests.training import golden
from tests.training.made import write_data


@pytest.mark.slow
def test_ten_steps_have_their_golden_losses(tmp_path):
    """Bit for bit on the machine that measured them, within `golden.TOLERANCE` on others; twice the same on any."""
    folders = write_data(tmp_path)
    pinned, found = golden.read(), golden.measure(folders)
    assert set(pinned["losses"]) == set(found) == set(golden.VARIANTS)
    if pinned["machine"] == golden.machine():
        assert found == pinned["losses"]
    for name in golden.VARIANTS:
        assert len(found[name]) == golden.STEPS
        assert found[name] == pytest.approx(pinned["losses"][name], rel=golden.TOLERANCE)
    assert golden.measure(folders) == found
