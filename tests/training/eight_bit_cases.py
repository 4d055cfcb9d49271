"""8-bit AdamW by torchao and by bitsandbytes. Run by test_eight_bit.py in processes that see one of them."""

import os

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lorweb.training.optimizer import build_optimizer, update
from lorweb.training.packages import require_package
from lorweb.training.state import newest_whole
from tests.training.made import equal, train_section, write_data
from tests.training.round_trip import assert_goes_on_bit_for_bit, optimizer_section
from tests.training.sharded import eight_bit, launch, trained

NAME = os.environ["LORWEB_TEST_OPTIMIZER"]


@pytest.mark.parametrize("variant", ["lorweb", "single_lora"])
def test_a_run_goes_on_from_the_file_as_if_it_had_not_stopped(tmp_path, variant):
    tensors = assert_goes_on_bit_for_bit(write_data(tmp_path), tmp_path / "state.safetensors", NAME, variant)
    codes = {key: value for key, value in tensors.items() if value.dtype == torch.uint8}
    assert len(codes) > 4 and all(value.numel() >= 4096 for value in codes.values())
    assert all(int(value.max()) > int(value.min()) for value in codes.values()), "moments that never moved"


def test_two_processes_share_its_moments_out_bit_for_bit(tmp_path):
    """In pieces of the large ones too; one process alone goes on from their checkpoint."""
    write_data(tmp_path)
    pair = launch(eight_bit, 2, tmp_path)
    for rank in pair:
        assert rank["zero1"]["losses"] == rank["none"]["losses"]
        assert equal(rank["zero1"]["weights"], rank["none"]["weights"]) and rank["left"] == {"stopped": 5}
        assert rank["zero1"]["moments"] < 0.6 * rank["none"]["moments"]
    section = {**train_section().optimizer.model_dump(), "name": NAME}
    alone = trained(tmp_path, "eight", "none", optimizer=section)
    assert alone["losses"] == pytest.approx(pair[0]["none"]["losses"], rel=1e-3)
    path, _ = newest_whole(tmp_path / "eight")
    codes = {key: t for key, t in load_file(path / "tensors.safetensors").items() if t.dtype == torch.uint8}
    assert any("router.projection" in key and tuple(value.shape[:1]) == (20,) for key, value in codes.items())


def test_it_is_adamw_but_for_the_rounding_of_moments():
    """On a parameter too small for 8 bits up to float32, on a large one nearly."""
    require_package(NAME)
    for size, tolerance in ((64, 1e-5), (4096, 0.05)):
        found = []
        for name in (NAME, "adamw"):
            config = train_section(optimizer=optimizer_section(name)).optimizer
            parameter = nn.Parameter(torch.linspace(-1, 1, size))
            optimizer = build_optimizer([parameter], [], config)
            generator = torch.Generator().manual_seed(0)
            for step in range(10):
                parameter.grad = torch.randn(size, generator=generator) + parameter.detach()
                assert update(optimizer, config, 1.0 / (1 + step)) == pytest.approx(0.01 / (1 + step))
            found.append(parameter.detach())
        moved = (found[1] - torch.linspace(-1, 1, size)).norm()
        assert float((found[0] - found[1]).norm() / moved) < tolerance
