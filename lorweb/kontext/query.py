"""The query of an analogy from its quadrants: what the encoder looks at is what the grid shows.

Legend: B queries that share one exemplar, Q query width.
"""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from lorweb.basis.query import ImageEncoder, View, combine, encode, feature_dim, views
from lorweb.kontext.canvas import Canvas
from lorweb.kontext.grid import compose, control_grid


def squared(image: Image.Image) -> Image.Image:
    """The image centred on a black square of its longer side.

    Encoders cut a square out of the centre, and of a composed view that may be a whole quadrant. Black says "nothing
    here", as it does in `grid_blank`; repeated edges would be texture that no image of the analogy has.
    """
    side = max(image.size)
    if image.size == (side, side):
        return image
    canvas = Image.new("RGB", (side, side))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


VIEWS: dict[View, Callable[[Image.Image, Image.Image, Image.Image], Image.Image]] = {
    "a": lambda a, _a2, _b: a,
    "a2": lambda _a, a2, _b: a2,
    "b": lambda _a, _a2, b: b,
    "top": lambda a, a2, b: squared(control_grid(a, a2, b).crop((0, 0, 2 * a.width, a.height))),
    "grid": lambda a, a2, b: squared(control_grid(a, a2, b)),
    "grid_blank": lambda a, a2, b: squared(compose(a, a2, b, Image.new("RGB", b.size))),
}


def view_image(view: View, a: Image.Image, a2: Image.Image, b: Image.Image) -> Image.Image:
    """One view of an analogy, from three RGB images of one size (`lorweb.basis.query.View` names them).

    Single images keep their shape, for the encoder's own preprocessing; composed views are square.
    """
    return VIEWS[view](a, a2, b)


@torch.no_grad()
def query_of(encoder: ImageEncoder, mode: str, canvas: Canvas) -> Tensor:
    """The bracket of Eq. 3 for each query of a canvas: [B, Q]; views without b are encoded once.

    Raises:
        ValueError: the encoder's features are not finite, or it has no patch tokens for a patch mode.
    """
    features: dict[str, Tensor] = {}
    for view in views(mode):
        shared = view in ("a", "a2", "top")
        queries = canvas.b[:1] if shared else canvas.b
        encoded_BF = encode(encoder, mode, [view_image(view, canvas.a, canvas.a2, b) for b in queries])
        assert encoded_BF.shape == (len(queries), feature_dim(encoder, mode)), tuple(encoded_BF.shape)
        if not bool(encoded_BF.isfinite().all()):
            raise ValueError(
                f"encoder {encoder.name} gave values that are not finite for view '{view}'; its weights are damaged"
            )
        features[view] = encoded_BF.expand(len(canvas.b), -1)
    return combine(mode, features)
