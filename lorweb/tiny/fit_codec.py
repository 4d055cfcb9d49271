"""The codec of the tiny base: its closed-form part from the corpus, its decoder network by gradient steps.

Legend: B batch, H W pixels.
"""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorweb.tiny.codec import PatchCodec


def to_pixels(images_B3HW: Tensor) -> Tensor:
    """uint8 -> float in [-1, 1]."""
    return images_B3HW.float() / 127.5 - 1


def fitted_codec(raw: dict[str, Tensor], n: dict[str, Any], folder: Path) -> PatchCodec:
    """The codec of an earlier call, or its linear part fitted to every image of the first part of the corpus."""
    if (folder / "config.json").is_file():
        earlier: PatchCodec = PatchCodec.from_pretrained(str(folder))
        return earlier
    torch.manual_seed(n["seed"])
    codec: PatchCodec = PatchCodec(
        latent_channels=16, refine_channels=n["codec"]["channels"], refine_blocks=n["codec"]["blocks"]
    )
    some = slice(None, None, max(1, len(raw["after"]) // 2000))
    codec.fit(to_pixels(torch.cat([raw["before"][some], raw["after"][some]])))
    codec.save_pretrained(str(folder))
    return codec


def refine_decoder(raw: dict[str, Tensor], n: dict[str, Any], folder: Path, minutes: float) -> None:
    """Least squares on the corpus, the learning rate falling to zero over the given time; saved to `folder`."""
    model, numbers = fitted_codec(raw, n, folder), n["codec"]
    images, end = torch.cat([raw["before"], raw["after"]]), time.monotonic() + 60 * minutes
    assert model.refine is not None
    optimizer = torch.optim.AdamW(model.refine.parameters(), lr=numbers["learning_rate"])
    step = 0
    while time.monotonic() < end:
        left = (end - time.monotonic()) / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = numbers["learning_rate"] * min(1.0, (step + 1) / 50, 2 * left)
        source = torch.Generator().manual_seed(step)
        x_B3HW = to_pixels(images[torch.randint(len(images), (numbers["batch"],), generator=source)])
        loss = ((model.decode(model.encode(x_B3HW).latents, return_dict=False)[0] - x_B3HW) ** 2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 200 == 0:
            print(f"codec step {step} psnr {-10 * torch.log10(loss.detach() / 4):.2f} dB", flush=True)
    model.save_pretrained(str(folder))
