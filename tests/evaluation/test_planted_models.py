"""Planted models on real images: the perfect one is best on every truth metric, and what is random loses the test."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from lorweb.data.scores import SafetyNet
from lorweb.evaluation.compare import Contender, compare
from lorweb.evaluation.metrics import Question, measure_answers
from lorweb.evaluation.results import Measured, rows_of, summarise
from tests.data.scoring import photos

pytestmark = pytest.mark.slow  # answers are measured first, for seconds

EDITS = {
    "negative": ImageOps.invert,
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "mirror": ImageOps.mirror,
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "bright": lambda image: ImageEnhance.Brightness(image).enhance(1.6),
    "flip": ImageOps.flip,
    "poster": lambda image: ImageOps.posterize(image, 2),
    "solar": ImageOps.solarize,
}
LOWER = ("mse_to_truth", "perceptual_to_truth", "color_to_truth")
HIGHER = ("ssim_to_truth", "psnr_to_truth")


@pytest.fixture(scope="module")
def measured() -> list[Measured]:
    net, images = SafetyNet(), photos(64)
    generator = np.random.default_rng(0)
    names, found = list(EDITS), []
    for task, edit in EDITS.items():
        for number, b in enumerate(images[:2]):
            a = images[number + 1]
            wrong = EDITS[names[int(generator.integers(len(names)))]]
            noise = Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            answers = {"perfect": edit(b), "copy": b, "random": wrong(b), "noise": noise}
            answers["nearly"] = Image.blend(b, edit(b), 0.8)
            scores = measure_answers(net, Question(a, edit(a), b, edit(b)), answers)
            found.append(Measured(f"{task}{number}", task, "colour", "none", False, "photo", scores))
    return found


def test_the_perfect_model_is_best_on_every_truth_metric(measured):
    models = summarise(rows_of(measured), 200, 0)["seen"]
    for metric in LOWER:
        means = {model: found[metric]["mean"] for model, found in models.items()}
        assert means["perfect"] == 0.0 and sorted(means, key=means.__getitem__)[:2] == ["perfect", "nearly"]
    colours = {model: found["color_histogram_to_truth"]["mean"] for model, found in models.items()}
    assert min(colours, key=colours.__getitem__) == "perfect" and colours["perfect"] == 0.0 < colours["copy"]
    for metric in HIGHER:
        means = {model: found[metric]["mean"] for model, found in models.items()}
        assert sorted(means, key=means.__getitem__)[-1] == "perfect"
    directions = {model: found["feature_direction"]["mean"] for model, found in models.items()}
    assert max(directions, key=directions.__getitem__) == "perfect" and directions["copy"] == 0.0


def test_copying_b_scores_as_copying(measured):
    for m in measured:
        row = m.scores["copy"]
        assert row["perceptual_to_source"] == 0.0 and row["feature_direction"] == 0.0
        assert row["perceptual_to_truth"] == pytest.approx(m.scores["perfect"]["perceptual_to_source"], rel=1e-5)


def test_a_random_model_loses_the_paired_test(measured):
    found = compare(Contender("random", measured), Contender("perfect", measured), 500, 0)
    for metric in LOWER:
        assert found[metric]["seen"]["low"] > 0 and found[metric]["seen"]["p_value"] < 0.05, metric
    noise = compare(Contender("noise", measured), Contender("nearly", measured), 500, 0)
    assert all(
        noise[metric]["seen"]["p_value"] == pytest.approx(2 / 256) for metric in LOWER
    )  # eight tasks say no more
    assert noise["ssim_to_truth"]["seen"]["high"] < 0


def test_models_of_two_evaluations_compare_by_the_names_of_analogies(measured):
    others = [Measured(**{**vars(m), "scores": {"mine": m.scores["nearly"]}}) for m in reversed(measured)]
    found = compare(Contender("mine", others), Contender("nearly", measured), 100, 0)
    assert {"seen", "seen_photo"} == set(found["mse_to_truth"])
    for cells in found.values():
        assert cells["seen"]["mean"] == 0.0 and cells["seen"]["p_value"] == 1.0 and cells["seen"]["n"] == 16


def test_two_sets_are_refused_with_what_differs(measured):
    with pytest.raises(
        ValueError, match=r"answered 15 analogies and perfect 16; 1 are not among both, as \['negative0"
    ):
        compare(Contender("copy", measured[1:]), Contender("perfect", measured), 10, 0)
    with pytest.raises(ValueError, match="evaluate both on one evaluation set"):
        compare(Contender("nobody", measured), Contender("nobody", measured), 10, 0)
