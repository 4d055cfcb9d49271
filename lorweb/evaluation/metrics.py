"""Metrics of one answer b' to an analogy a : a' :: b : ?, and their means over tasks with intervals.

The feature network is SafetyNet, which is not the encoder that makes the query. All distances and similarities compare
8-bit RGB images of equal size. Lower is better for `perceptual_to_truth`, `color_to_truth`,
`color_histogram_to_truth` and `mse_to_truth`; higher for `ssim_to_truth`, `psnr_to_truth` and `feature_direction`;
`perceptual_to_source` says how far b' went from b.
Further networks, whose weights the user gives, add metrics under names of their own (lorweb.evaluation.backbones).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lorweb.data.pixels import check_comparable, ssim
from lorweb.data.scores import NetOutput, SafetyNet, cosine, perceptual_distance
from lorweb.evaluation.backbones import Backbone

METRICS: Final = (
    "perceptual_to_truth",
    "perceptual_to_source",
    "ssim_to_truth",
    "psnr_to_truth",
    "color_to_truth",
    "color_histogram_to_truth",
    "mse_to_truth",
    "feature_direction",
)
COLOR_GRID: Final = 8  # cells per side in which colours are averaged
MAX_PSNR: Final = 100.0  # dB, of equal images: an infinite value has no mean


@dataclass(frozen=True)
class Question:
    """An analogy with its known answer `b2`: RGB images, b and b2 of one size."""

    a: Image.Image
    a2: Image.Image
    b: Image.Image
    b2: Image.Image


MeasureAnswer = Callable[[Image.Image, str], dict[str, float]]
"""(answer, whose it is) -> {metric: value}"""


def measure_answers(
    net: SafetyNet, question: Question, answers: Mapping[str, Image.Image], backbones: Sequence[Backbone] = ()
) -> dict[str, dict[str, float]]:
    """All metrics of the answers of several models to one question: {model: {metric: value}}.

    The networks see a, a', b and the truth once, whatever the number of models. `backbones` measure more than METRICS.

    Raises:
        ValueError: an answer or the truth has another size or mode than b, or a side below 11 px.
    """
    measure = measure_of(net, question, backbones)
    return {model: measure(answer, model) for model, answer in answers.items()}


def measure_of(net: SafetyNet, question: Question, backbones: Sequence[Backbone] = ()) -> MeasureAnswer:
    """What measures one answer after the other to a question that it has looked at once; see `measure_answers`."""
    _check_comparable("the true b'", question.b2, question.b)
    fixed = net([question.a, question.a2, question.b, question.b2])
    further = [backbone(question) for backbone in backbones]

    def measure(answer: Image.Image, name: str) -> dict[str, float]:
        _check_comparable(name, answer, question.b)
        metrics = _network_metrics(fixed, net([answer])) | pixel_metrics(question.b2, answer)
        for measure_one in further:
            metrics |= measure_one(answer)
        return metrics

    return measure


def _check_comparable(name: str, image: Image.Image, b: Image.Image) -> None:
    try:
        check_comparable(b, image)
    except ValueError as error:
        raise ValueError(f"{name} cannot be compared with b: {error}") from error


def pixel_metrics(truth: Image.Image, answer: Image.Image) -> dict[str, float]:
    """The metrics that need no network.

    - `mse_to_truth`: mean squared difference, of values in 0..1
    - `psnr_to_truth`: dB, of values in 0..1, cut off at 100
    - `ssim_to_truth`: structural similarity, -1..1
    - `color_to_truth`: CIEDE2000 colour difference (1 is just visible, black to white is 100) of the averages of the
      two images in an 8x8 grid of cells, mean over cells: right colours in the right places, blind to detail
    - `color_histogram_to_truth`: earth mover's distance of the distributions of L*, a* and b* over all pixels, in units
      of CIE Lab, mean of the three: right colours and as much of them, blind to where they are
    """
    mse = float(np.square(_unit_range(truth) - _unit_range(answer)).mean())
    return {
        "mse_to_truth": mse,
        "psnr_to_truth": min(MAX_PSNR, float(-10.0 * np.log10(max(mse, 1e-30)))),
        "ssim_to_truth": ssim(truth, answer),
        "color_to_truth": color_distance(truth, answer),
        "color_histogram_to_truth": color_histogram_distance(truth, answer),
    }


def color_distance(x: Image.Image, y: Image.Image) -> float:
    """Mean CIEDE2000 difference of cell averages; see `pixel_metrics`."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    x_lab, y_lab = (rgb2lab(_cells(image)) for image in (x, y))
    return float(deltaE_ciede2000(x_lab, y_lab).mean())


def color_histogram_distance(x: Image.Image, y: Image.Image) -> float:
    """Mean earth mover's distance of the distributions of L*, a* and b*, exact, without bins; see `pixel_metrics`."""
    from scipy.stats import wasserstein_distance  # type: ignore[import-untyped]
    from skimage.color import rgb2lab

    x_lab, y_lab = (rgb2lab(_unit_range(image)).reshape(-1, 3) for image in (x, y))
    return float(np.mean([wasserstein_distance(x_lab[:, c], y_lab[:, c]) for c in range(3)]))


def _network_metrics(fixed: NetOutput, answer: NetOutput) -> dict[str, float]:
    """`fixed` holds a, a', b and the true b' in this order, `answer` one image."""
    a_D, a2_D, b_D = fixed.feature[0:1], fixed.feature[1:2], fixed.feature[2:3]
    return {
        "perceptual_to_truth": float(perceptual_distance(answer, fixed.rows([3]))[0]),
        "perceptual_to_source": float(perceptual_distance(answer, fixed.rows([2]))[0]),
        "feature_direction": float(cosine(a2_D - a_D, answer.feature - b_D)[0]),
    }


def _unit_range(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image, dtype=np.float64) / 255.0


def _cells(image: Image.Image) -> NDArray[np.float64]:
    """Averages over a grid of cells, [8, 8, 3] in 0..1; the box filter weighs pixels cut by a border."""
    bands = [band.convert("F").resize((COLOR_GRID, COLOR_GRID), Image.Resampling.BOX) for band in image.split()]
    return np.stack([np.asarray(band, dtype=np.float64) for band in bands], axis=-1) / 255.0
