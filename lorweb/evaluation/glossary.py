"""What the metrics mean and which way is better, for the page and the model card. Unlisted ones are shown too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Metric:
    """How a metric is to be read."""

    name: str
    meaning: str
    lower_is_better: bool | None  # None: neither direction is better by itself


GLOSSARY: Final = {
    metric.name: metric
    for metric in (
        Metric("mse_to_truth", "mean squared difference of pixel values between 0 and 1", True),
        Metric("psnr_to_truth", "the same in dB", False),
        Metric("ssim_to_truth", "structural similarity of b′ and the true b′; 1 is equal", False),
        Metric(
            "color_to_truth", "CIEDE2000 difference of colours averaged over an 8 × 8 grid; 1 is just visible", True
        ),
        Metric(
            "color_histogram_to_truth",
            "earth mover's distance of the distributions of L*, a* and b*: right colours wherever they are; 0 is equal",
            True,
        ),
        Metric(
            "perceptual_to_truth",
            "distance of b′ to the true b′ in the form of LPIPS but without its weights: differences of normalised "
            "activations of the OpenNSFW network, which no filter threshold, query or loss was fitted with; 0 is equal",
            True,
        ),
        Metric(
            "perceptual_to_source",
            "distance of b′ to b in the measure of perceptual_to_truth: how much was changed",
            None,
        ),
        Metric(
            "feature_direction",
            "cosine of the change b → b′ and the change a → a′ in features of the OpenNSFW network; stands in for "
            "CLIP's directional similarity and is not that number",
            False,
        ),
        Metric("lpips_to_truth", "LPIPS of b′ and the true b′; 0 is equal", True),
        Metric("lpips_to_source", "LPIPS of b′ and b: how much was changed", None),
        Metric("clip_direction", "cosine of the changes b → b′ and a → a′ in CLIP's image embedding", False),
        Metric("siglip2_direction", "cosine of the changes b → b′ and a → a′ in SigLIP's image embedding", False),
        Metric("dino_direction", "cosine of the changes b → b′ and a → a′ in DINO's features", False),
        Metric(
            "judge_accuracy", "how well b′ does what the exemplar shows, 1 to 10, by a vision-language model", False
        ),
        Metric("judge_preservation", "how well b′ keeps of b what the edit leaves alone, 1 to 10, by the same", False),
    )
}


def metrics_in(cells: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Metric]:
    """Every metric of {cell: {model: {metric: ...}}}: the known ones in the order of the glossary, then the others."""
    found = {name for models in cells.values() for values in models.values() for name in values}
    return [described(name) for name in (*(n for n in GLOSSARY if n in found), *sorted(found - set(GLOSSARY)))]


def described(name: str) -> Metric:
    """A metric by its name; one that nobody described says so, and claims no direction."""
    return GLOSSARY.get(name, Metric(name, "not described here; see what measured it", None))


def best_of(values: Mapping[str, float], metric: Metric) -> str | None:
    """The name with the best value; None where neither direction is better, or nothing is there. Ties: the first."""
    if metric.lower_is_better is None or not values:
        return None
    sign = 1.0 if metric.lower_is_better else -1.0
    return min(values, key=lambda name: sign * values[name])


def worse_by(value: float, rival: float, metric: Metric) -> float:
    """How much worse `value` is than `rival`, in units of the metric; negative where it is better."""
    return rival - value if metric.lower_is_better is False else value - rival
