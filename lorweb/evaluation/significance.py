"""How sure a difference or a win rate is: a sign-flip test over tasks, Wilson's intervals of a proportion."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEVELS: Final = {"wilson_68": 0.6827, "wilson_95": 0.95}
"""Names of the reported intervals, and the confidence of each; 68 % is what the paper's bars show."""


def sign_flip_p(differences: NDArray[np.float64], flips: int, generator: np.random.Generator) -> float:
    """Two-sided p value of a mean of differences, 0..1: how often random signs give a mean as far from 0.

    Were the two models alike, each unit's difference would be as likely with the other sign. With at most `flips`
    patterns of signs all of them are tried, and p is exact; else `flips` random ones, and p is 2 / (flips + 1) or more.
    One unit says nothing: 1.

    Raises:
        ValueError: no differences.
    """
    from scipy.stats import permutation_test  # type: ignore[import-untyped]

    if not len(differences):
        raise ValueError("there are no differences to test; compare at least one task")
    if len(differences) < 2 or not differences.any():
        return 1.0
    found = permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=flips, rng=generator
    )
    return min(1.0, float(found.pvalue))


def wilson(successes: float, trials: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion. `successes` may hold halves, as ties count.

    Raises:
        ValueError: no trials, or not 0 <= successes <= trials.
    """
    from scipy.stats import norm

    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials are no proportion")
    z, share = float(norm.ppf((1 + confidence) / 2)), successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)
