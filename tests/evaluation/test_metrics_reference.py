"""Metrics against plain recomputations that share no code with them: formulas of the papers in numpy."""

import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage import data
from skimage.metrics import structural_similarity

from lorweb.data.scores import SafetyNet
from lorweb.evaluation.metrics import Question, color_distance, color_histogram_distance, measure_answers, pixel_metrics


@pytest.fixture(scope="module")
def net() -> SafetyNet:
    return SafetyNet()


@pytest.fixture(scope="module")
def question() -> Question:
    a, b = (Image.fromarray(picture).resize((64, 64)) for picture in (data.coffee(), data.chelsea()))
    return Question(a, ImageOps.invert(a), b, ImageOps.solarize(b))


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE Lab under D65 of sRGB in 0..1, by IEC 61966-2-1 and CIE 15."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    x, y, z = np.moveaxis(linear @ np.array(matrix).T / [0.95047, 1.0, 1.08883], -1, 0)
    f = [np.where(v > (6 / 29) ** 3, np.cbrt(v), v / (3 * (6 / 29) ** 2) + 4 / 29) for v in (x, y, z)]
    return np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])], axis=-1)


def ciede2000(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colour differences of Lab values, step by step as Sharma, Wu and Dalal (2005) write them."""
    (L1, a1, b1), (L2, a2, b2) = np.moveaxis(x, -1, 0), np.moveaxis(y, -1, 0)
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    G = 0.5 * (1 - np.sqrt(mean**7 / (mean**7 + 25.0**7)))
    a1, a2 = (1 + G) * a1, (1 + G) * a2
    C1, C2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    grey = C1 * C2 == 0
    turn = np.where(grey, 0, (h2 - h1 + 180) % 360 - 180)
    H = 2 * np.sqrt(C1 * C2) * np.sin(np.radians(turn) / 2)
    L, C = (L1 + L2) / 2, (C1 + C2) / 2
    far = np.abs(h1 - h2) > 180
    h = np.where(grey, h1 + h2, np.where(far, (h1 + h2 + np.where(h1 + h2 < 360, 360, -360)) / 2, (h1 + h2) / 2))
    T = 1 - 0.17 * cos(h - 30) + 0.24 * cos(2 * h) + 0.32 * cos(3 * h + 6) - 0.20 * cos(4 * h - 63)
    SL, SC, SH = 1 + 0.015 * (L - 50) ** 2 / np.sqrt(20 + (L - 50) ** 2), 1 + 0.045 * C, 1 + 0.015 * C * T
    turned = -np.sin(np.radians(60 * np.exp(-(((h - 275) / 25) ** 2)))) * 2 * np.sqrt(C**7 / (C**7 + 25.0**7))
    dL, dC, dH = (L2 - L1) / SL, (C2 - C1) / SC, H / SH
    return np.sqrt(dL**2 + dC**2 + dH**2 + turned * dC * dH)


def cos(degrees: np.ndarray) -> np.ndarray:
    return np.cos(np.radians(degrees))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_recomputed_colour_difference_is_the_published_one(x, y, expected):
    assert ciede2000(np.array(x, float), np.array(y, float)) == pytest.approx(expected, abs=1e-4)


def test_colour_distance_is_the_mean_difference_of_cell_averages(question):
    for x, y in ((question.b, question.b2), (question.a, question.b), (question.b, question.b)):
        cells = [lab(np.asarray(i).reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) / 255) for i in (x, y)]
        assert color_distance(x, y) == pytest.approx(ciede2000(*cells).mean(), abs=2e-3)


def test_histogram_distance_is_the_area_between_the_cumulative_distributions(question):
    """Integrated over a fine grid of values, L*, a*, b* one after another."""
    grid = np.linspace(-130, 130, 26001)
    for x, y in ((question.b, question.b2), (question.a, question.b)):
        areas = []
        for u, v in zip(*(lab(np.asarray(i) / 255).reshape(-1, 3).T for i in (x, y)), strict=True):
            below = [np.searchsorted(np.sort(w), grid, side="right") / len(w) for w in (u, v)]
            areas.append(np.abs(below[0] - below[1]).sum() * (grid[1] - grid[0]))
        assert color_histogram_distance(x, y) == pytest.approx(np.mean(areas), abs=0.02)


def test_histogram_distance_by_hand():
    """Black to white moves L* by 100; where pixels lie does not count, and how many of them changed does."""
    black, white = (Image.new("RGB", (16, 16), (v, v, v)) for v in (0, 255))
    assert color_histogram_distance(black, white) == pytest.approx(100 / 3, abs=0.01)
    half = black.copy()
    half.paste(white.crop((0, 0, 8, 16)), (0, 0))
    assert color_histogram_distance(black, half) == pytest.approx(50 / 3, abs=0.01)
    assert color_histogram_distance(half, ImageOps.mirror(half)) == 0.0


def test_ssim_is_that_of_scikit_image(question):
    x, y = np.asarray(question.b2), np.asarray(question.a)
    expected = structural_similarity(
        x, y, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert pixel_metrics(question.b2, question.a)["ssim_to_truth"] == pytest.approx(expected, abs=1e-9)


def test_perceptual_distances_stage_by_stage(net, question):
    answer = ImageOps.posterize(question.b, 2)
    found = measure_answers(net, question, {"x": answer})["x"]
    seen = net([answer, question.b2, question.b])
    for name, other in (("perceptual_to_truth", 1), ("perceptual_to_source", 2)):
        total = 0.0
        for stage in seen.stages:
            channels, height, width = stage.shape[1:]
            distance = 0.0
            for row in range(height):
                for column in range(width):
                    u, v = (stage[i, :, row, column].astype(np.float64) for i in (0, other))
                    u, v = (w / max(np.sqrt((w**2).sum()), 1e-10) for w in (u, v))
                    distance += ((u - v) ** 2).sum()
            assert channels > 100
            total += distance / (height * width)
        assert found[name] == pytest.approx(total / 4, rel=1e-4)


def test_direction_of_no_change_is_zero_on_either_side(net, question):
    still = Question(question.a, question.a, question.b, question.b2)
    assert measure_answers(net, still, {"x": question.b2})["x"]["feature_direction"] == 0.0
    assert measure_answers(net, question, {"x": question.b})["x"]["feature_direction"] == 0.0
