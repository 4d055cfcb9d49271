"""What runs in the actors of the encode stage: one image, grid or text at a time.

In a batch, rounding depends on who else is in it, and a resumed run batches differently.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from lorweb.basis.query import sees_grid
from lorweb.config import Encode
from lorweb.data.decode import decode_rgb
from lorweb.data.rejects import Rejected
from lorweb.data.shards import RowReader
from lorweb.kontext.geometry import ViewRule, draw_view
from lorweb.records import PAIR
from pipelines._rows import Item, Result

if TYPE_CHECKING:
    from torch import Tensor

    from lorweb.kontext.load import Base

MAX_PIXELS: Final = 1 << 28  # these are our own images; the limit only stops a damaged header


class EncodeImages:
    """The worker: images -> encoder features, and latents of one quadrant unless grids are encoded whole."""

    def __init__(self, cfg: Encode, pairs: str) -> None:
        from lorweb.basis.encoders import load_encoder
        from lorweb.kontext.grid import Size

        self.size = Size(cfg.quadrant, cfg.quadrant)
        self.rows = RowReader(Path(pairs), PAIR, ["before", "after"])
        self.base = frozen_base(cfg) if cfg.latents == "quadrant" else None
        self.encoder, self.mode, self.dtype = load_encoder(cfg.encoder, device(cfg)), cfg.query_mode, cfg.dtype
        self.rule = ViewRule(cfg.views.smallest, cfg.views.flips)

    def __call__(self, items: list[Item]) -> list[Result]:
        return [{"image": item["id"], "tensors": self._encode(item["at"], item["view"])} for item in items]

    def _encode(self, at: tuple[list[int], str], view: int) -> bytes:
        from lorweb.basis.query import encode
        from lorweb.kontext.codec import encode_image
        from lorweb.kontext.grid import fit_image

        place, side = at
        image = decode_rgb(self.rows(place)[side], MAX_PIXELS)
        if view:
            image = draw_view(self.rule, view).apply(image)
        image, _ = fit_image(image, self.size, "crop")
        found = {"features": encode(self.encoder, self.mode, [image])[0]}
        if self.base is not None:
            found["latents"] = encode_image(self.base, [image])[0]
        return stored(found, self.dtype)


class EncodeGrids:
    """The worker for grids: a, a', b -> features of the view of a mode that looks at grids, and latents of the control
    grid; a, a', b, b' -> latents of the target grid. Latents only where grids are encoded whole.
    """

    def __init__(self, cfg: Encode, pairs: str) -> None:
        from lorweb.basis.encoders import load_encoder
        from lorweb.kontext.grid import Size

        self.size = Size(cfg.quadrant, cfg.quadrant)
        self.rows = RowReader(Path(pairs), PAIR, ["before", "after"])
        self.base = frozen_base(cfg) if cfg.latents == "grid" else None
        self.encoder = load_encoder(cfg.encoder, device(cfg)) if sees_grid(cfg.query_mode) else None
        self.mode, self.dtype = cfg.query_mode, cfg.dtype

    def __call__(self, items: list[Item]) -> list[Result]:
        return [{"images": item["id"], "tensors": self._encode(item["at"])} for item in items]

    def _encode(self, places: list[tuple[list[int], str]]) -> bytes:
        from lorweb.basis.query import encode, views
        from lorweb.kontext.codec import encode_image
        from lorweb.kontext.grid import compose, control_grid, fit_image
        from lorweb.kontext.query import view_image

        images = [decode_rgb(self.rows(place)[side], MAX_PIXELS) for place, side in places]
        fitted = [fit_image(image, self.size, "crop")[0] for image in images]
        found = {}
        if self.encoder is not None and len(fitted) == 3:
            (view,) = views(self.mode)
            found["features"] = encode(self.encoder, self.mode, [view_image(view, *fitted)])[0]
        if self.base is not None:
            picture = control_grid(*fitted) if len(fitted) == 3 else compose(*fitted)
            found["latents"] = encode_image(self.base, [picture])[0]
        return stored(found, self.dtype)


class EncodeTexts:
    """The worker: instructions -> prompt embeddings [T, E] and pooled vector [P]."""

    def __init__(self, cfg: Encode) -> None:
        self.base, self.dtype = frozen_base(cfg), cfg.dtype

    def __call__(self, items: list[Item]) -> list[Result]:
        return [{"instruction": item["text"], "tensors": self._encode(item["text"])} for item in items]

    def _encode(self, text: str) -> bytes:
        found = self.base.text([text])
        return stored({"prompt_embeds": found.prompt_BTE[0], "pooled": found.pooled_BP[0]}, self.dtype)


def stored(tensors: Mapping[str, "Tensor"], dtype: Literal["float16", "bfloat16"]) -> bytes:
    """A safetensors file of the tensors, each value the nearest one that the dtype has.

    Raises:
        Rejected: a value that is not a number, or outside the dtype's range: it would come back as infinity.
    """
    import torch
    from safetensors.torch import save

    kind = torch.float16 if dtype == "float16" else torch.bfloat16
    for name, tensor in tensors.items():
        most = float(tensor.float().abs().max())
        if not math.isfinite(most):
            raise Rejected(
                "finite", f"{name} holds values that are not finite numbers; base or encoder is damaged", most
            )
        if not bool(tensor.to(kind).isfinite().all()):
            limit = torch.finfo(kind).max
            wider = "set encode.dtype to bfloat16, or " if dtype == "float16" else ""
            reason = f"{name} reach {most:.4g}, and {dtype} ends at {limit:.4g}; {wider}look at base and encoder"
            raise Rejected("range", reason, most, limit)
    content: bytes = save({name: tensor.to("cpu", kind).contiguous() for name, tensor in tensors.items()})
    return content


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
