"""The codec of the tiny base: its closed-form part from the corpus, its decoder network by gradient steps.

Legend: B batch, H W pixels.
"""

import time
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from lorweb.basis.efficientnet import load_network
from lorweb.tiny.codec import PatchCodec

FEATURE_BLOCKS: Final = (0, 2)  # of EfficientNet-Lite0: 16 and 24 channels at 1/2 and 1/4


def to_pixels(images_B3HW: Tensor) -> Tensor:
    """uint8 -> float in [-1, 1]."""
    return images_B3HW.float() / 127.5 - 1


def new_codec(n: dict[str, Any]) -> PatchCodec:
    """A codec of the shape that pretrain.yaml asks for: nothing fitted, a refinement that starts from nothing."""
    torch.manual_seed(n["seed"])
    codec: PatchCodec = PatchCodec(
        latent_channels=16, refine_channels=n["codec"]["channels"], refine_blocks=n["codec"]["blocks"]
    )
    return codec


def fitted_codec(raw: dict[str, Tensor], n: dict[str, Any], folder: Path) -> PatchCodec:
    """The codec of an earlier call, or its linear part fitted to every image of the first part of the corpus."""
    if (folder / "config.json").is_file():
        earlier: PatchCodec = PatchCodec.from_pretrained(str(folder))
        return earlier
    codec = new_codec(n)
    some = slice(None, None, max(1, len(raw["after"]) // 2000))
    codec.fit(to_pixels(torch.cat([raw["before"][some], raw["after"][some]])))
    codec.save_pretrained(str(folder))
    return codec


def adopted_codec(packaged: Path, n: dict[str, Any], folder: Path) -> PatchCodec:
    """The packaged codec, saved to `folder`. Latents stay what they are; another shape of refinement starts afresh."""
    codec = new_codec(n)
    stored = load_file(packaged / "diffusion_pytorch_model.safetensors")
    same = all(name in stored and stored[name].shape == value.shape for name, value in codec.state_dict().items())
    for name, value in codec.state_dict().items() if same else codec.named_buffers():
        value.copy_(stored[name])
    codec.save_pretrained(str(folder))
    return codec


class FeatureDistance:
    """Distance of early activations of EfficientNet-Lite0, each scaled to unit length over channels: edges and texture,
    where squared error alone prefers blur. Not the network that the evaluation measures with.
    """

    def __init__(self) -> None:
        self.network = load_network().requires_grad_(False).to(memory_format=torch.channels_last)

    def __call__(self, x_B3HW: Tensor, y_B3HW: Tensor) -> Tensor:
        """Mean over stages, cells and images, 0..2, of images in [-1, 1]."""
        found = []
        y = F.relu6(self.network._bn0(self.network._conv_stem(torch.cat([x_B3HW, y_B3HW]))))
        for index, block in enumerate(self.network._blocks[: FEATURE_BLOCKS[-1] + 1]):
            y = block(y)
            if index in FEATURE_BLOCKS:
                unit = y / y.norm(dim=1, keepdim=True).clamp_min(1e-6)
                left, right = unit.chunk(2)
                found.append(((left - right) ** 2).sum(1).mean())
        return torch.stack(found).mean()


def refine_decoder(raw: dict[str, Tensor], n: dict[str, Any], folder: Path, minutes: float) -> None:
    """Squared error and feature distance on the corpus, the learning rate falling to zero over the given time."""
    model, numbers = fitted_codec(raw, n, folder), n["codec"]
    images, end = torch.cat([raw["before"], raw["after"]]), time.monotonic() + 60 * minutes
    assert model.refine is not None
    optimizer = torch.optim.AdamW(model.refine.parameters(), lr=numbers["learning_rate"], weight_decay=0.0)
    distance, step = FeatureDistance(), 0
    while time.monotonic() < end:
        left = (end - time.monotonic()) / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = numbers["learning_rate"] * min(1.0, (step + 1) / 50, 2 * max(0.0, left))
        source = torch.Generator().manual_seed(step)
        x_B3HW = to_pixels(images[torch.randint(len(images), (numbers["batch"],), generator=source)])
        decoded = model.decode(model.encode(x_B3HW).latents, return_dict=False)[0]
        error = ((decoded - x_B3HW) ** 2).mean()
        far = distance(decoded, x_B3HW) if numbers["feature_weight"] else error.new_zeros(())
        (error + numbers["feature_weight"] * far).backward()
        nn.utils.clip_grad_norm_(model.refine.parameters(), n["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0:
            psnr = -10 * torch.log10(error.detach() / 4)
            print(f"codec step {step} psnr {psnr:.2f} dB features {far.detach():.4f}", flush=True)
    model.save_pretrained(str(folder))
