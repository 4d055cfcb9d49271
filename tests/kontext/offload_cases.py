"""Pipelines whose weights rest elsewhere, and where they rest."""

from pathlib import Path

import pytest
import torch

from lorweb.basis import BasisConfig, basis_layers
from lorweb.basis.inject import router_of
from lorweb.kontext.canvas import CanvasRule
from lorweb.kontext.grid import Size
from lorweb.kontext.load import Base, load_base
from lorweb.kontext.pipeline import AnalogyPipeline
from lorweb.kontext.place import Offload, Place, settle
from tests.kontext.made import CONFIG, train
from tests.kontext_tiny import PixelEncoder, drawn_image

RULE = CanvasRule(Size(32, 32))
B = drawn_image(2, 48, 40)
OFFLOADS: list[Offload] = ["model", "sequential"]
CPU, CUDA = "cpu", "cuda"
DEVICES = [
    CPU,
    pytest.param(CUDA, marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]),
]


def pipeline(folder: Path | str, offload: Offload, config: BasisConfig = CONFIG, device: str = CPU) -> AnalogyPipeline:
    place = Place(device, torch.float32, offload)
    base = load_base(str(folder), torch.float32, place.loading)
    train(base, config)
    settle(base, place)
    plain_cpu(base)
    return AnalogyPipeline(base, None if config.internal else PixelEncoder(), config, RULE)


def plain_cpu(base: Base) -> None:
    """diffusers asks for device "cpu:0", which is the CPU as well but not equal to "cpu": accelerate would copy every
    parameter, and lose that it is one. Accelerators have no such second name.
    """
    for part in base.pipeline.components.values():
        for module in part.modules() if isinstance(part, torch.nn.Module) else []:
            if str(getattr(getattr(module, "_hf_hook", None), "execution_device", None)) == "cpu:0":
                module._hf_hook.execution_device = torch.device("cpu")


def places(base: Base) -> tuple[set[str], set[str]]:
    """Device types of the base's weights and of the basis."""
    basis = [*router_of(base.transformer).parameters()]
    basis += [p for layer in basis_layers(base.transformer).values() for p in (layer.A, layer.B)]
    own = {id(p) for p in basis}
    parts = (base.transformer, base.pipeline.vae, base.pipeline.text_encoder, base.pipeline.text_encoder_2)
    weights = [p for part in parts for p in part.parameters() if id(p) not in own]
    assert len(weights) > 100 and len(basis) > 40
    return {p.device.type for p in weights}, {p.device.type for p in basis}
