"""FLOPs against torch's own counter, and time against its parts by hand."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lorweb.plan.devices import DEVICES, device
from lorweb.plan.flops import step_time, work
from lorweb.plan.setting import read_setting
from tests.plan.counted import Shape, _forward, make_run, off, planned, section

SHAPE = Shape(width=128, doubles=2, singles=3, quadrant=8, text=16)


@pytest.mark.parametrize("rows", [1, 3])
def test_products_are_those_that_torch_counts(tmp_path, rows) -> None:
    config = section(batch_size=rows)
    model, _ = planned(SHAPE, config)
    run = make_run(SHAPE, config, "cpu", tmp_path)
    with sdpa_kernel(SDPBackend.MATH):  # whose products torch counts on a CPU too
        in_place = {torch.ops.aten.addmm_: _addmm}  # torch counts only the one that is not
        with FlopCounterMode(display=False, custom_mapping=in_place) as forward:
            loss = _forward(run)
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    plan = work(model, SHAPE.tokens, rows, attention_backward=2.0)
    assert off(plan.forward, forward.get_total_flops()) < 0.01
    assert off(plan.backward, backward.get_total_flops()) < 0.02


def _addmm(_, a, b, out_shape=None, **rest) -> int:
    return 2 * a[0] * a[1] * b[1]


def test_time_is_the_sum_of_its_parts() -> None:
    config = section(batch_size=4, gpus_per_worker=1, precision="bfloat16")
    model, _ = planned(SHAPE, config)
    setting, on = read_setting(config), device("a100")
    plain = step_time(model, setting, SHAPE.tokens, on, 0.5)
    done = work(model, SHAPE.tokens, 4)
    assert plain.flops == done.forward + done.backward
    assert plain.seconds == pytest.approx(plain.flops / 156e12 + model.trained * 28 / 2e12)
    again = step_time(model, replace(setting, gradient_checkpointing=True), SHAPE.tokens, on, 0.5)
    assert again.flops - plain.flops == done.forward
    shared = step_time(model, replace(setting, workers=2), SHAPE.tokens, on, 0.5)
    assert shared.flops == pytest.approx(plain.flops / 2) and shared.workers == 4 * model.trained / 300e9
    quantised = step_time(model, replace(setting, base_weights="int8"), SHAPE.tokens, on, 0.5)
    assert quantised.unpacking > 0 == plain.unpacking


def test_devices_by_name() -> None:
    assert device("h100").bfloat16 == 989e12 and len(DEVICES) > 5
    with pytest.raises(ValueError, match="no device 'H1OO' is known, nearest: h100"):
        device("H1OO")


def test_torch_has_no_tf32_unless_asked() -> None:
    """The float32 peaks in the table are those without it."""
    assert not torch.backends.cuda.matmul.allow_tf32
