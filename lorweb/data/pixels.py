"""What two images say of each other by their pixels alone.

Legend: H W pixels, C channels, D features.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, sobel

Array = NDArray[np.float32]
MIN_SIDE: Final = 11  # px, the width of the SSIM window
FLAT: Final = 2  # grey levels within which a row has one colour
OUTLINE_SIDE: Final = 64  # px to which an image is squashed for its outline
OUTLINE_CELLS: Final = 24  # of a side
OUTLINE_POWER: Final = 4  # 0.84 ** 4 = 1/2: the strongest sixth of the edges has most of the weight


def check_comparable(x: Image.Image, y: Image.Image) -> None:
    """Raises ValueError unless both are RGB, of one size, and no side is below the SSIM window."""
    if x.mode != "RGB" or y.mode != "RGB":
        raise ValueError(f"images to compare must be RGB, got modes {x.mode} and {y.mode}; convert them first")
    if x.size != y.size:
        raise ValueError(f"images to compare must have one size, got {x.size} and {y.size} px; resize one")
    if min(x.size) < MIN_SIDE:
        raise ValueError(f"images to compare must have sides of at least {MIN_SIDE} px, got {x.size}; scale them up")


def ssim(x: Image.Image, y: Image.Image) -> float:
    """Structural similarity, -1..1, as in its paper: Gaussian window of sigma 1.5, mean over RGB channels."""
    from skimage.metrics import structural_similarity

    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(np.asarray(x), np.asarray(y), channel_axis=2, data_range=255, **window))


def pixel_scores(before: Image.Image, after: Image.Image) -> dict[str, float]:
    """`change`, `ssim`, `detail`, `sharpness` and `cut` of a pair, see lorweb.data.scores.score_pairs."""
    a_HWC, a2_HWC = (np.asarray(image, dtype=np.float64) / 255.0 for image in (before, after))
    luma_HW = a2_HWC @ np.array([0.299, 0.587, 0.114])
    inner_HW = luma_HW[1:-1, 1:-1]
    around_HW = luma_HW[:-2, 1:-1] + luma_HW[2:, 1:-1] + luma_HW[1:-1, :-2] + luma_HW[1:-1, 2:]
    return {
        "change": float(np.abs(a2_HWC - a_HWC).mean()),
        "ssim": ssim(before, after),
        "detail": float(a2_HWC.std(axis=(0, 1)).mean()),
        "sharpness": float((around_HW - 4.0 * inner_HW).std()),
        "cut": max(0.0, _flat_end(after) - _flat_end(before)),
    }


def _flat_end(image: Image.Image) -> float:
    """Share of the height from the lower end up in which all pixels have one colour, 0..1."""
    v_HWC = np.asarray(image, dtype=np.int16)[::-1]
    varied_H = (np.abs(v_HWC - v_HWC[0, 0]) > FLAT).any(axis=(1, 2))
    return float(varied_H.argmax() / len(varied_H)) if varied_H.any() else 1.0


def outline_features(image: Image.Image) -> Array:
    """Where an image has its strongest edges, whatever their strength and colour, [576].

    Edges by Sobel over RGB at 64 px, the strongest channel of each pixel; their ranks, 0..1, to the fourth power,
    blurred and put on a 24 x 24 grid. An edit that repaints an image leaves many of its edges where they were.
    """
    small = image.convert("RGB").resize((OUTLINE_SIDE, OUTLINE_SIDE), Image.Resampling.BILINEAR)
    v_HWC = np.asarray(small, dtype=np.float32) / 255.0
    edge_HW = np.hypot(sobel(v_HWC, axis=0), sobel(v_HWC, axis=1)).max(axis=2)
    rank_HW = np.argsort(np.argsort(edge_HW, axis=None, kind="stable"), kind="stable").reshape(edge_HW.shape)
    strong_HW = gaussian_filter((rank_HW / rank_HW.size).astype(np.float32) ** OUTLINE_POWER, 1.5)
    cells = Image.fromarray(strong_HW).resize((OUTLINE_CELLS, OUTLINE_CELLS), Image.Resampling.BOX)
    return np.asarray(cells, dtype=np.float32).ravel()
