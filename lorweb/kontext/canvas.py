"""From three images of any size to the quadrants of one grid: which size, which crop, and how b' gets back.

Legend: B queries that share one exemplar and one quadrant size, C latent channels, h w rows and columns of a quadrant.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from PIL import Image
from torch import Tensor

from lorweb.kontext.codec import decode_quadrants, encode_image
from lorweb.kontext.grid import (
    LATENTS,
    Fit,
    Latents,
    Placement,
    Size,
    check_exemplar,
    compose_latents,
    content_of,
    control_grid,
    fit_image,
    quadrant_like,
    restore,
)
from lorweb.kontext.images import as_rgb
from lorweb.kontext.load import Base

QUADRANT_MULTIPLE = 16  # px: two latent cells make one token


@dataclass(frozen=True)
class CanvasRule:
    """How images become quadrants.

    quadrant: size in px, multiples of 16. fit: of a and a'; b is never cropped, since all of it has to come back: it is
    padded unless fit is "stretch". shape: "fixed" keeps `quadrant`; "from_b" keeps its area and takes the aspect of b.
    tolerance: allowed |log| of the ratio of the aspects of a and a'. latents: "quadrant" encodes each image by itself;
    "grid" encodes and decodes the composed grid, as the authors' code does (seams see across). A basis wants the one of
    its training.
    """

    quadrant: Size
    fit: Fit = "crop"
    shape: Literal["fixed", "from_b"] = "fixed"
    tolerance: float = 0.05
    latents: Latents = "quadrant"

    def __post_init__(self) -> None:
        height, width = self.quadrant.height, self.quadrant.width
        if height % QUADRANT_MULTIPLE or width % QUADRANT_MULTIPLE:
            raise ValueError(f"quadrant is {height}x{width} px; both sides must be multiples of {QUADRANT_MULTIPLE}")
        for name, value, known in (
            ("fit", self.fit, ("crop", "pad", "stretch")),
            ("shape", self.shape, ("fixed", "from_b")),
            ("latents", self.latents, LATENTS),
        ):
            if value not in known:
                raise ValueError(f"{name} is '{value}'; use one of {', '.join(known)}")

    def quadrant_for(self, b: Size) -> Size:
        """The quadrant size for a query of this size."""
        if self.shape == "fixed":
            return self.quadrant
        side = round((self.quadrant.height * self.quadrant.width) ** 0.5)
        return quadrant_like(b, side, QUADRANT_MULTIPLE)


@dataclass(frozen=True)
class Exemplar:
    """a and a' as RGB images of their own sizes, aspects checked."""

    a: Image.Image
    a2: Image.Image

    @classmethod
    def of(cls, a: Image.Image, a2: Image.Image, rule: CanvasRule) -> "Exemplar":
        """Raises ValueError for images that cannot be used, or whose aspects differ."""
        pair = cls(as_rgb(a, "a"), as_rgb(a2, "a'"))
        if rule.fit != "stretch":
            check_exemplar(Size.of(pair.a), Size.of(pair.a2), rule.tolerance)
        return pair


@dataclass(frozen=True)
class Canvas:
    """Fitted quadrants: one a and a', B queries, and where each query lies in its quadrant."""

    a: Image.Image
    a2: Image.Image
    b: list[Image.Image]
    placements: list[Placement]

    @classmethod
    def of(cls, exemplar: Exemplar, queries: list[Image.Image], rule: CanvasRule) -> "Canvas":
        """`queries` are RGB and share one quadrant size under the rule."""
        sizes = {rule.quadrant_for(Size.of(b)) for b in queries}
        assert len(sizes) == 1, f"queries of {len(sizes)} quadrant sizes in one canvas"
        quadrant = sizes.pop()
        fitted = [fit_image(b, quadrant, "stretch" if rule.fit == "stretch" else "pad") for b in queries]
        a, a2 = (fit_image(image, quadrant, rule.fit)[0] for image in (exemplar.a, exemplar.a2))
        return cls(a, a2, [image for image, _ in fitted], [where for _, where in fitted])

    def encode(self, base: Base, rule: CanvasRule) -> Tensor:
        """Control grids [B, C, 2h, 2w]; a and a' are encoded once."""
        if rule.latents == "grid":
            return encode_image(base, [control_grid(self.a, self.a2, b) for b in self.b])
        z_BChw = encode_image(base, self.b)
        za_BChw, za2_BChw = (z.expand_as(z_BChw) for z in encode_image(base, [self.a, self.a2]).split(1))
        return compose_latents(za_BChw, za2_BChw, z_BChw, z_BChw)

    def decode(self, base: Base, target_BCHW: Tensor, rule: CanvasRule) -> list[Image.Image]:
        """The bottom-right quadrants as images of each query's own size and aspect."""
        quadrants = self._quadrants(base, target_BCHW, rule)
        return [restore(image, where) for image, where in zip(quadrants, self.placements, strict=True)]

    def preview(self, base: Base, target_BCHW: Tensor, rule: CanvasRule) -> list[Image.Image]:
        """As `decode`, at the size of the quadrant: without padding, and not brought to the query's size."""
        quadrants = self._quadrants(base, target_BCHW, rule)
        return [content_of(image, where) for image, where in zip(quadrants, self.placements, strict=True)]

    def _quadrants(self, base: Base, target_BCHW: Tensor, rule: CanvasRule) -> list[Image.Image]:
        (quadrants,) = decode_quadrants(base, target_BCHW, [(1, 1)], rule.latents)
        return quadrants


def batches(queries: Iterable[Image.Image], rule: CanvasRule, most: int) -> Iterator[tuple[int, list[Image.Image]]]:
    """Runs of at most `most` neighbours that share a quadrant size, as RGB, each with the index of its first.

    Raises:
        ValueError: there is no query, or one cannot be used (named `b[index]`).
    """
    batch: list[Image.Image] = []
    first, size = 0, None
    for index, query in enumerate(queries):
        b = as_rgb(query, f"b[{index}]")
        quadrant = rule.quadrant_for(Size.of(b))
        if batch and (len(batch) >= most or quadrant != size):
            yield first, batch
            batch, first = [], index
        batch.append(b)
        size = quadrant
    if not batch:
        raise ValueError("there is no query image b; give at least one")
    yield first, batch
