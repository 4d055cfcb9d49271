"""LPIPS and aesthetic heads: against the published packages, numpy, and files that do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from lorweb.data.rejects import Rejected
from lorweb.data.scorers.aesthetic import read_head
from lorweb.data.scorers.base import PairImages
from lorweb.data.scorers.build import describe
from lorweb.data.scorers.lpips import Lpips, read_lpips
from tests.data.scoring import drawn, entry, photos, save_clip, scored, some_pairs
from tests.data.test_scorer_encoders import embeddings

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/lpips.json").read_text(encoding="utf-8"))


def lpips_weights(net):
    """Weights that every machine draws alike, under the keys of torchvision and LPIPS."""
    shapes = {key: tuple(value.shape) for key, value in Lpips(net).state_dict().items()}
    tensors = {}
    for seed, (key, shape) in enumerate(sorted(shapes.items())):
        fan = int(np.prod(shape[1:])) or 1
        tensors[key] = np.abs(drawn(shape, seed)) if key.startswith("lin") else drawn(shape, seed) * (2 / fan) ** 0.5
        tensors[key] = np.ascontiguousarray(tensors[key] * (0.01 if key.endswith("bias") else 1), np.float32)
    return tensors


def lpips_file(folder, net):
    save_file(
        {**lpips_weights(net), "classifier.1.weight": np.zeros((2, 2), np.float32)}, folder / f"{net}.safetensors"
    )
    return folder / f"{net}.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_that_of_the_published_packages(net, tmp_path):
    """Recorded from lpips 0.1.4 and torchmetrics 1.9.0 (torchvision 0.28.0), which agree, with the same weights."""
    assert GOLDEN["packages"] == {"lpips": "0.1.4", "torchmetrics": "1.9.0", "torchvision": "0.28.0"}
    x, y = (np.clip(drawn((2, 3, 70, 64), seed) / 3, -1, 1) for seed in (100, 101))
    model = read_lpips(net, lpips_file(tmp_path, net))
    found = model(torch.from_numpy(x), torch.from_numpy(y))
    for package in ("lpips", "torchmetrics"):
        np.testing.assert_allclose(found.numpy(), GOLDEN[net][package], rtol=1e-4)
    assert len(set(GOLDEN[net]["lpips"])) == 2 and float(model(torch.from_numpy(x), torch.from_numpy(x)).max()) == 0.0


def test_lpips_scores_pairs_and_refuses_what_it_cannot_compare(tmp_path):
    file = lpips_file(tmp_path, "alex")
    a, b, _ = photos()
    pairs = [*some_pairs(), PairImages(a, b.resize((32, 64)), "", "", "style")]
    tiny = Image.new("RGB", (16, 64))
    answers = scored([*pairs, PairImages(tiny, tiny, "", "", "style")], scorer="lpips", net="alex", weights=str(file))
    model = read_lpips("alex", file)
    for pair, found in zip(pairs[:4], answers, strict=False):
        x, y = (
            torch.from_numpy(np.asarray(image).transpose(2, 0, 1)[None] / 255 * 2 - 1).float()
            for image in (pair.before, pair.after)
        )
        assert found.scores == {"lpips": pytest.approx(float(model(x, y)), rel=1e-4, abs=1e-7)}
    assert answers[3].scores["lpips"] == 0.0 and answers[0].scores["lpips"] > answers[1].scores["lpips"] > 0
    assert [answer.check for answer in answers[4:]] == ["not_comparable"] * 2
    assert isinstance(answers[5], Rejected) and (answers[5].value, answers[5].threshold) == (16, 31)


def test_without_its_weights_lpips_says_what_to_give(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"give a \.safetensors file with torchvision's alex backbone and LPIPS'"
    ):
        describe(entry(scorer="lpips", net="alex", weights=str(tmp_path / "none.safetensors")))
    (tmp_path / "alex.pth").write_bytes(b"x")
    with pytest.raises(ValueError, match="other formats are not read; convert it"):
        describe(entry(scorer="lpips", net="alex", weights=str(tmp_path / "alex.pth")))
    tensors = lpips_weights("alex")
    del tensors["lin2.model.1.weight"]
    save_file(tensors, tmp_path / "no_head.safetensors")
    with pytest.raises(ValueError, match=r"'lin2\.model\.1\.weight' is missing, expected \[1, 384, 1, 1\]"):
        describe(entry(scorer="lpips", net="alex", weights=str(tmp_path / "no_head.safetensors")))
    with pytest.raises(ValueError, match=r"expected \[64, 3, 3, 3\] of LPIPS 'vgg'"):
        describe(entry(scorer="lpips", net="vgg", weights=str(lpips_file(tmp_path, "alex"))))


def head_tensors(widths):
    return {
        f"layers.{place}.{part}": drawn((b, a) if part == "weight" else (b,), place)
        for place, a, b in widths
        for part in ("weight", "bias")
    }


PREDICTOR = [(0, 16, 12), (2, 12, 8), (4, 8, 6), (6, 6, 4), (10, 4, 1)]  # as LAION's, places of dropouts left out


@pytest.mark.slow
def test_an_aesthetic_head_is_applied_to_the_unit_embedding(tmp_path):
    clip = save_clip(tmp_path / "clip")
    pairs = some_pairs()
    linear = {"weight": drawn((1, 16), 9), "bias": drawn((1,), 10)}
    for number, tensors in enumerate((head_tensors(PREDICTOR), linear)):
        file = tmp_path / f"head{number}.safetensors"
        save_file(tensors, file)
        answers = scored(pairs, scorer="aesthetic", model=str(clip), head=str(file))
        for pair, found in zip(pairs, answers, strict=True):
            for key, image in (("aesthetic_before", pair.before), ("aesthetic", pair.after)):
                ((x, _),) = embeddings(clip, [image], ["x"])
                for prefix in [f"layers.{place}." for place, _, _ in PREDICTOR] if number == 0 else [""]:
                    x = tensors[f"{prefix}weight"] @ x + tensors[f"{prefix}bias"]
                assert found.scores[key] == pytest.approx(float(x[0]), rel=1e-4, abs=1e-5)


def test_a_head_that_does_not_fit_is_refused(tmp_path):
    file = tmp_path / "head.safetensors"
    for tensors, words in (
        ({"mlp.weight": drawn((1, 4), 0), "mlp.bias": drawn((1,), 0)}, "must hold a linear head"),
        ({"weight": drawn((1, 4), 0)}, "must hold a linear head"),
        (
            head_tensors([(0, 16, 12), (2, 11, 1)]),
            r"layer 'layers\.2' has shapes \(1, 11\) and \(1,\); expected \[N, 12\]",
        ),
        (head_tensors([(0, 16, 2)]), "gives 2 numbers"),
    ):
        save_file(tensors, file)
        with pytest.raises(ValueError, match=words):
            read_head(file)
    save_file({"weight": drawn((1, 5), 0), "bias": drawn((1,), 0)}, file)
    assert load_file(file)["weight"].shape == (1, 5)
    with pytest.raises(ValueError, match="takes embeddings of 5, but CLIP gives 16"):
        scored(some_pairs(), scorer="aesthetic", model=str(save_clip(tmp_path / "clip")), head=str(file))
