"""Metrics of answers: against scikit-image and hand computations, and at both ends: the truth and a copied b."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from skimage import data
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio

from lorweb.data.pixels import ssim
from lorweb.data.scores import SafetyNet, perceptual_distance
from lorweb.evaluation.metrics import METRICS, Question, color_distance, measure_answers, pixel_metrics


@pytest.fixture(scope="module")
def net() -> SafetyNet:
    return SafetyNet()


@pytest.fixture(scope="module")
def question() -> Question:
    a, b = (Image.fromarray(picture).resize((64, 64)) for picture in (data.coffee(), data.chelsea()))
    return Question(a, ImageOps.invert(a), b, ImageOps.invert(b))


def test_the_true_answer_scores_perfectly(net, question):
    row = measure_answers(net, question, {"truth": question.b2})["truth"]
    assert set(row) == set(METRICS)
    assert (
        row["perceptual_to_truth"]
        == row["mse_to_truth"]
        == row["color_to_truth"]
        == 0.0
        == row["color_histogram_to_truth"]
    )
    assert row["ssim_to_truth"] == pytest.approx(1.0) and row["psnr_to_truth"] == 100.0
    assert row["perceptual_to_source"] > 0.05 and row["feature_direction"] > 0.05


def test_a_copied_b_scores_as_copying_does(net, question):
    row = measure_answers(net, question, {"copy": question.b})["copy"]
    x, y = net([question.b]), net([question.b2])
    assert row["perceptual_to_source"] == 0.0 and row["feature_direction"] == 0.0
    assert row["perceptual_to_truth"] == pytest.approx(float(perceptual_distance(x, y)[0]))
    assert row["ssim_to_truth"] == pytest.approx(ssim(question.b, question.b2))


def test_an_answer_nearer_to_the_truth_scores_better(net, question):
    """Between the copy and the truth lies their blend; a destroyed answer is worse than the blend."""
    blend = Image.blend(question.b, question.b2, 0.8)
    rows = measure_answers(net, question, {"copy": question.b, "blend": blend, "truth": question.b2})
    for metric in ("perceptual_to_truth", "mse_to_truth", "color_to_truth", "color_histogram_to_truth"):
        assert rows["truth"][metric] < rows["blend"][metric] < rows["copy"][metric]
    for metric in ("ssim_to_truth", "psnr_to_truth"):
        assert rows["truth"][metric] > rows["blend"][metric] > rows["copy"][metric]


def test_feature_direction_is_the_cosine_of_the_two_changes(net, question):
    answer = ImageEnhance.Color(question.b).enhance(0.2)
    f = [net([image]).feature[0].astype(float) for image in (question.a, question.a2, question.b, answer)]
    u, v = f[1] - f[0], f[3] - f[2]
    expected = u @ v / np.sqrt((u @ u) * (v @ v))
    assert measure_answers(net, question, {"x": answer})["x"]["feature_direction"] == pytest.approx(expected, abs=1e-4)


def test_models_measured_together_or_alone_agree_exactly(net, question):
    answers = {"copy": question.b, "blend": Image.blend(question.b, question.b2, 0.5)}
    together = measure_answers(net, question, answers)
    assert together == {name: measure_answers(net, question, {name: answer})[name] for name, answer in answers.items()}


def test_pixel_metrics_against_scikit_image(question):
    x, y = np.asarray(question.b2), np.asarray(question.a)
    row = pixel_metrics(question.b2, question.a)
    assert row["psnr_to_truth"] == pytest.approx(peak_signal_noise_ratio(x, y), abs=1e-6)
    assert row["mse_to_truth"] == pytest.approx(np.mean((x / 255 - y / 255) ** 2))
    cells = [rgb2lab(z.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) / 255) for z in (x, y)]
    assert row["color_to_truth"] == pytest.approx(deltaE_ciede2000(*cells).mean(), abs=1e-3)


def test_colour_distance_of_flat_images_and_of_detail():
    black, white = (Image.new("RGB", (40, 24), (v, v, v)) for v in (0, 255))
    assert color_distance(black, white) == pytest.approx(100.0, abs=0.01)
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    board, inverse = (Image.fromarray(z.astype(np.uint8)).convert("RGB") for z in (checks, 255 - checks))
    assert color_distance(board, inverse) == pytest.approx(0.0, abs=1e-4)  # blind to detail
    assert pixel_metrics(board, inverse)["mse_to_truth"] == 1.0


def test_a_wrong_size_is_refused_and_named(net, question):
    with pytest.raises(ValueError, match=r"lorweb cannot be compared with b.*resize"):
        measure_answers(net, question, {"lorweb": question.b.resize((32, 32))})
