"""The packaged encoder: against its package's own forward, and the promises a pipeline rests on."""

import numpy as np
import pytest
import torch
from PIL import Image

from lorweb.basis import efficientnet
from lorweb.basis.encoders import PACKAGED, RawFeatures, load_encoder
from lorweb.basis.fit_encoder import EditedFeatures, fit_reduction


@pytest.fixture(scope="module")
def packaged():
    return load_encoder(PACKAGED)


@pytest.mark.slow
def test_statistics_equal_the_packages_own_network(photos):
    """The folded ONNX graph against hooks on the torch module, whose batch norms are not folded."""
    network, seen = efficientnet.load_network(), {}
    for i in efficientnet.STAGES:
        network._blocks[i].register_forward_hook(lambda module, x, y, i=i: seen.__setitem__(i, y))
    pixels = (torch.from_numpy(efficientnet.rgb_array(photos, 224)).permute(0, 3, 1, 2) - 127) / 128
    with torch.inference_mode():
        head = network.extract_features(pixels).mean(dim=(2, 3))
    parts = [part for i in sorted(seen) for part in (seen[i].mean((2, 3)), seen[i].std((2, 3), correction=0))]
    expected = torch.cat([*parts, head], dim=1).numpy()
    found = efficientnet.MultiStageStatistics()(photos)
    assert found.shape == (3, efficientnet.WIDTH) == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert np.ptp(expected, axis=0).mean() > 0.05  # the photos do differ


def test_the_backbone_knows_a_cup_and_a_cat(photos):
    """Right weights and right preprocessing: ImageNet classes espresso 967, and cats 281 to 287."""
    network = efficientnet.load_network()
    pixels = (torch.from_numpy(efficientnet.rgb_array(photos, 224)).permute(0, 3, 1, 2) - 127) / 128
    with torch.inference_mode():
        features = network.extract_features(pixels).mean(dim=(2, 3))
        best = network._fc(features).argmax(dim=1).tolist()
    assert best[0] in (967, 504) and 281 <= best[1] <= 287


def test_packaged_features_are_plain_floats_of_order_one(packaged, photos):
    out = packaged(photos)
    assert out.shape == (3, packaged.dim) and out.dtype == torch.float32 and not out.requires_grad
    assert 0.1 < out.square().mean() < 10
    assert packaged.name == PACKAGED and len(packaged.revision) == 16
    assert packaged([]).shape == (0, packaged.dim)


@pytest.mark.slow
def test_packaged_features_equal_the_reduction_written_out(packaged, photos):
    raw = torch.from_numpy(RawFeatures()(photos))
    assert raw.shape == (3, 2404)
    expected = ((raw - packaged._shift_F) * packaged._scale_F).double() @ packaged._matrix_FD
    torch.testing.assert_close(packaged(photos), expected.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_features_do_not_depend_on_the_batch(packaged, photos):
    together = packaged([*photos, *photos[::-1]])
    alone = torch.cat([packaged([photo]) for photo in photos])
    assert torch.equal(together[:3], alone) and torch.equal(together[3:].flip(0), alone)


def test_features_tell_images_apart_and_ignore_tiny_noise(packaged, photos):
    noise = np.random.default_rng(0).integers(-1, 2, (80, 96, 3))
    noisy = Image.fromarray(np.clip(np.asarray(photos[0], int) + noise, 0, 255).astype(np.uint8))
    grey = photos[0].convert("L").convert("RGB")
    same, noised, greyed, other = (packaged([image])[0] for image in (photos[0], noisy, grey, photos[1]))
    distances = [float((same - x).norm()) for x in (noised, greyed, other)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_a_second_encoder_is_the_same(packaged, photos):
    again = load_encoder(PACKAGED)
    assert again.revision == packaged.revision and torch.equal(again(photos), packaged(photos))


@pytest.mark.slow
def test_torch_threads_are_left_alone(photos):
    before = torch.get_num_threads()
    load_encoder(PACKAGED)(photos[:1])
    assert torch.get_num_threads() == before


def test_only_rgb_is_taken(packaged, photos):
    with pytest.raises(ValueError, match="got mode L"):
        packaged([photos[0].convert("L")])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("efficientnet-lite0", "did you mean 'efficientnet-lite0\\+style'"),
        ("clp:/x", "did you mean 'clip:FOLDER'"),
        ("clip", "did you mean 'clip:FOLDER'"),
        ("clip:/no/such/folder", "no config.json there"),
        ("siglip2:/no/such/folder", "no config.json there"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(name, says):
    with pytest.raises(ValueError, match=says):
        load_encoder(name)


def test_the_reduction_finds_what_edits_change_and_forgets_subjects():
    generator = np.random.default_rng(0)
    subjects = (generator.normal(size=(600, 3)) @ generator.normal(size=(3, 20)) * 5 + 3).astype(np.float32)
    task = np.arange(600) % 4
    shifts = np.zeros((4, 20), dtype=np.float32)
    shifts[:, 11:14] = generator.normal(size=(4, 3)) * 6  # tasks move features 11, 12 and 13; subjects spread over all
    noise = generator.normal(size=(600, 20)).astype(np.float32) * 0.05
    before = subjects + generator.normal(size=(600, 20)).astype(np.float32) * 0.1
    before[:, 7] = 2.0  # dead
    found = EditedFeatures(before, before + shifts[task] + noise, task)
    made = fit_reduction(found, 3)
    reduce = lambda raw: ((torch.from_numpy(raw) - made["shift"]) * made["scale"]) @ made["matrix"].float()  # noqa: E731
    x, y = reduce(found.before_MF), reduce(found.after_MF)
    both = torch.cat([x, y])
    assert both.mean(0).abs().max() < 1e-2 and both.square().mean() == pytest.approx(1.0, abs=0.01)
    centres = torch.stack([(y - x)[task == k].mean(0) for k in range(4)])
    nearest = torch.cdist(y - x, centres).argmin(1)
    assert float((nearest == torch.from_numpy(task)).float().mean()) > 0.97
    assert all(torch.equal(made[key], fit_reduction(found, 3)[key]) for key in made)
    with pytest.raises(ValueError, match="4 tasks have at most 3 discriminant directions, not 4"):
        fit_reduction(found, 4)
