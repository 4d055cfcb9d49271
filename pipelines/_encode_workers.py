"""What runs in the actors of the encode stage: one image, grid or text at a time.

In a batch, rounding depends on who else is in it, and a resumed run batches differently.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorweb.config import Encode
from lorweb.data.decode import decode_rgb
from lorweb.data.shards import RowReader
from lorweb.kontext.geometry import ViewRule, draw_view
from lorweb.records import PAIR
from pipelines._rows import Item, Result

if TYPE_CHECKING:
    from lorweb.kontext.load import Base

MAX_PIXELS: Final = 1 << 28  # these are our own images; the limit only stops a damaged header


class EncodeImages:
    """The worker: images -> latents of one quadrant and encoder features, float16."""

    def __init__(self, cfg: Encode, pairs: str) -> None:
        from lorweb.basis.encoders import load_encoder
        from lorweb.kontext.grid import Size

        self.size = Size(cfg.quadrant, cfg.quadrant)
        self.rows = RowReader(Path(pairs), PAIR, ["before", "after"])
        self.base = frozen_base(cfg)
        self.encoder, self.mode = load_encoder(cfg.encoder, str(self.base.device)), cfg.query_mode
        self.rule = ViewRule(cfg.views.smallest, cfg.views.flips)

    def __call__(self, items: list[Item]) -> list[Result]:
        return [{"image": item["id"], "tensors": self._encode(*item["at"], item["view"])} for item in items]

    def _encode(self, place: list[int], side: str, view: int) -> bytes:
        import torch
        from safetensors.torch import save

        from lorweb.basis.query import encode
        from lorweb.kontext.codec import encode_image
        from lorweb.kontext.grid import fit_image

        image = decode_rgb(self.rows(place)[side], MAX_PIXELS)
        if view:
            image = draw_view(self.rule, view).apply(image)
        image, _ = fit_image(image, self.size, "crop")
        latents, features = encode_image(self.base, [image])[0], encode(self.encoder, self.mode, [image])[0]
        both = {"latents": latents, "features": features}
        return save({name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in both.items()})


class EncodeGrids:
    """The worker for modes that look at the grid: a, a' and b -> encoder features of the mode's view, float16."""

    def __init__(self, cfg: Encode, pairs: str) -> None:
        from lorweb.basis.encoders import load_encoder
        from lorweb.kontext.grid import Size

        self.size = Size(cfg.quadrant, cfg.quadrant)
        self.rows = RowReader(Path(pairs), PAIR, ["before", "after"])
        self.encoder, self.mode = load_encoder(cfg.encoder, device(cfg)), cfg.query_mode

    def __call__(self, items: list[Item]) -> list[Result]:
        return [{"images": item["id"], "tensors": self._encode(item["at"])} for item in items]

    def _encode(self, places: list[tuple[list[int], str]]) -> bytes:
        import torch
        from safetensors.torch import save

        from lorweb.basis.query import encode, views
        from lorweb.kontext.grid import fit_image
        from lorweb.kontext.query import view_image

        images = [decode_rgb(self.rows(place)[side], MAX_PIXELS) for place, side in places]
        a, a2, b = (fit_image(image, self.size, "crop")[0] for image in images)
        (view,) = views(self.mode)
        features_D = encode(self.encoder, self.mode, [view_image(view, a, a2, b)])[0]
        return save({"features": features_D.to("cpu", torch.float16).contiguous()})


class EncodeTexts:
    """The worker: instructions -> prompt embeddings [T, E] and pooled vector [P], float16."""

    def __init__(self, cfg: Encode) -> None:
        self.base = frozen_base(cfg)

    def __call__(self, items: list[Item]) -> list[Result]:
        return [{"instruction": item["text"], "tensors": self._encode(item["text"])} for item in items]

    def _encode(self, text: str) -> bytes:
        import torch
        from safetensors.torch import save

        found = self.base.text([text])
        both = {"prompt_embeds": found.prompt_BTE[0], "pooled": found.pooled_BP[0]}
        return save({name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in both.items()})


def frozen_base(cfg: Encode) -> "Base":
    """The base on the device the pool was given: bfloat16 on a GPU, float32 on a CPU."""
    import torch

    from lorweb.kontext.load import load_base

    where = device(cfg)
    return load_base(cfg.base, torch.bfloat16 if where == "cuda" else torch.float32, where)


def device(cfg: Encode) -> str:
    """What the pool was given."""
    import torch

    return "cuda" if cfg.pool.gpus > 0 and torch.cuda.is_available() else "cpu"
