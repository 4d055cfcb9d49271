"""Backbones that the user gives: LPIPS and directions under their own names, by hand, and what is refused."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageOps

from lorweb.data.scores import SafetyNet
from lorweb.evaluation.backbones import describe, facts_for_protocol, load_backbones
from lorweb.evaluation.metrics import METRICS, Question, measure_answers
from tests.data.scoring import photos, save_clip, save_dino
from tests.data.test_scorer_encoders import cos, embeddings
from tests.data.test_scorer_heads import lpips_file, lpips_weights
from tests.model_tiny import save_tiny_clip

SIDE = 64
_ALEX = ((0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False))
"""Of each stage: index of its convolution, stride, padding, whether pooling comes before it."""


@pytest.fixture(scope="module")
def question() -> Question:
    a, b, _ = photos(SIDE)
    return Question(a, ImageOps.invert(a), b, ImageOps.invert(b))


@pytest.fixture(scope="module")
def answer() -> Image.Image:
    return ImageOps.solarize(photos(SIDE)[1])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("weights")
    return {"clip": save_clip(root / "clip"), "dino": save_dino(root / "dino"), "lpips": lpips_file(root, "alex")}


def only(perceptual, direction, question, answer):
    measures = [backbone(question) for backbone in load_backbones(perceptual, direction, "cpu")]
    return {name: value for measure in measures for name, value in measure(answer).items()}


def convolved(x_CHW, weight, bias, stride, padding):
    x = np.pad(x_CHW, ((0, 0), (padding, padding), (padding, padding)))
    side = weight.shape[-1]
    windows = sliding_window_view(x, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("chwij,ocij->ohw", windows, weight, optimize=True) + bias[:, None, None]


def lpips_by_hand(x, y):
    """Zhang et al. 2018, Eq. 1, over AlexNet, in plain numpy."""
    weights = {name: value.astype(np.float64) for name, value in lpips_weights("alex").items()}
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    features = [((np.asarray(i) / 127.5 - 1 - shift) / scale).transpose(2, 0, 1) for i in (x, y)]
    total = 0.0
    for stage, (index, stride, padding, pooled) in enumerate(_ALEX):
        if pooled:
            features = [sliding_window_view(f, (3, 3), axis=(1, 2))[:, ::2, ::2].max((3, 4)) for f in features]
        kernel, bias = weights[f"features.{index}.weight"], weights[f"features.{index}.bias"]
        features = [np.maximum(convolved(f, kernel, bias, stride, padding), 0) for f in features]
        u, v = (f / (np.sqrt((f**2).sum(0)) + 1e-10) for f in features)
        total += (weights[f"lin{stage}.model.1.weight"][0] * (u - v) ** 2).sum(0).mean()
    return total


@pytest.mark.slow
def test_lpips_by_hand(folders, question, answer):
    found = only(f"lpips:{folders['lpips']}", "packaged", question, answer)
    assert set(found) == {"lpips_to_truth", "lpips_to_source"}
    assert found["lpips_to_truth"] == pytest.approx(lpips_by_hand(answer, question.b2), rel=1e-4)
    assert found["lpips_to_source"] == pytest.approx(lpips_by_hand(answer, question.b), rel=1e-4)
    assert only(f"lpips:{folders['lpips']}", "packaged", question, question.b2)["lpips_to_truth"] == 0.0


def test_clip_direction_by_hand_and_zero_without_a_change(folders, question, answer):
    images = [question.a, question.a2, question.b, answer]
    a, a2, b, b2 = (row for row, _ in embeddings(folders["clip"], images, ["x"] * 4))
    a, a2, b, b2 = (row / np.linalg.norm(row) for row in (a, a2, b, b2))
    direction = f"clip:{folders['clip']}"
    assert only("packaged", direction, question, answer) == {
        "clip_direction": pytest.approx(cos(a2 - a, b2 - b), abs=1e-4)
    }
    assert only("packaged", direction, question, question.b) == {"clip_direction": 0.0}
    still = Question(question.a, question.a, question.b, question.b2)
    assert only("packaged", direction, still, answer) == {"clip_direction": 0.0}


def test_dino_direction_by_hand(folders, question, answer):
    import torch
    from transformers import BitImageProcessorPil, Dinov2Model

    model = Dinov2Model.from_pretrained(str(folders["dino"])).eval()
    processor = BitImageProcessorPil.from_pretrained(folders["dino"])
    rows = []
    for image in (question.a, question.a2, question.b, answer):
        with torch.no_grad():
            row = model(**processor(images=[image], return_tensors="pt")).last_hidden_state[0, 0].numpy()
        rows.append(row / np.linalg.norm(row))
    expected = cos(rows[1] - rows[0], rows[3] - rows[2])
    found = only("packaged", f"dino:{folders['dino']}", question, answer)
    assert found == {"dino_direction": pytest.approx(expected, abs=1e-4)}


@pytest.mark.slow
def test_names_are_earned_and_the_packaged_stand_ins_stay(folders, question, answer):
    net, alone = SafetyNet(), {"answer": answer}
    plain = measure_answers(net, question, alone)["answer"]
    assert set(plain) == set(METRICS) and not {name for name in plain if "lpips" in name or "clip" in name}
    backbones = load_backbones(f"lpips:{folders['lpips']}", f"clip:{folders['clip']}", "cpu")
    more = measure_answers(net, question, {**alone, "copy": question.b}, backbones)
    assert set(more["answer"]) == {*METRICS, "lpips_to_truth", "lpips_to_source", "clip_direction"}
    assert {name: more["answer"][name] for name in METRICS} == plain
    assert more["copy"]["lpips_to_source"] == 0.0 and more["copy"]["clip_direction"] == 0.0
    assert measure_answers(net, question, alone, backbones)["answer"] == more["answer"]


def test_names_and_hashes_tell_weights_apart(folders, tmp_path):
    def facts(perceptual, direction):
        return facts_for_protocol(describe(perceptual, direction, SIDE))

    plain = facts("packaged", "packaged")
    assert plain["perceptual"]["name"] == plain["direction"]["name"] == "packaged" and plain["direction"]["revision"]
    other = save_tiny_clip(tmp_path / "other")
    found = [facts("packaged", f"clip:{folder}")["direction"] for folder in (folders["clip"], other)]
    assert [one["name"] for one in found] == ["clip", "clip"] and found[0]["revision"] != found[1]["revision"]
    assert facts(f"lpips:{folders['lpips'].parent}", "packaged") == facts(f"lpips:{folders['lpips']}", "packaged")
    vgg = describe(f"lpips:{lpips_file(tmp_path, 'vgg')}", "packaged", SIDE)["perceptual"]
    assert vgg.name == "lpips:vgg" and vgg.metrics == ("lpips_to_truth", "lpips_to_source")


@pytest.mark.parametrize(
    ("perceptual", "direction", "side", "words"),
    [
        (
            "lpips:nowhere.safetensors",
            "packaged",
            64,
            "no file 'nowhere.safetensors'; give a .safetensors file with an",
        ),
        ("lpips:FILE", "packaged", 24, "compares images of 31 px and more, and these have 24"),
        ("lpips:CLIP/model.safetensors", "packaged", 64, "'features.0.weight' is None, of neither AlexNet nor VGG"),
        ("packaged", "clip:nowhere", 64, "no config.json in 'nowhere'"),
    ],
)
def test_what_cannot_be_used_is_a_sentence_before_anything_is_drawn(folders, perceptual, direction, side, words):
    named = perceptual.replace("FILE", str(folders["lpips"])).replace("CLIP", str(folders["clip"]))
    with pytest.raises((FileNotFoundError, ValueError), match=words):
        describe(named, direction, side)


def test_a_folder_of_several_files_is_not_guessed_from(folders, tmp_path):
    for net in ("alex", "vgg"):
        lpips_file(tmp_path, net)
    with pytest.raises(ValueError, match=r"holds 2 \.safetensors files; name the one"):
        describe(f"lpips:{tmp_path}", "packaged", SIDE)
    with pytest.raises(ValueError, match="does not load as a clip image tower"):
        load_backbones("packaged", f"clip:{folders['dino']}", "cpu")
