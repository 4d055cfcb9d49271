"""The packaged scorer: pixels, OpenNSFW and its features, and perceptual hashes. Needs nothing beyond the packages."""

from collections.abc import Sequence
from typing import Final

from lorweb.data.pixels import check_comparable
from lorweb.data.rejects import Rejected
from lorweb.data.scorers.base import Known, PairImages, Scored, ScorerFacts
from lorweb.data.scores import SafetyNet, score_pairs

KEYS: Final = ("change", "ssim", "detail", "sharpness", "cut", "nsfw", "similarity", "perceptual")


def describe_embedded() -> ScorerFacts:
    """Facts of the packaged scorer."""
    return ScorerFacts("embedded", SafetyNet().revision, KEYS, ("safety",), ("layout", "outline"), hashes=True)


class EmbeddedScorer(Known):
    """The scores of lorweb.data.scores.score_pairs, `change.safety`, layout and outline of both sides, and hashes.

    `perceptual` has the form of LPIPS, not its weights; layout and outline features are not of unit length.
    """

    def __init__(self, facts: ScorerFacts) -> None:
        super().__init__(facts)
        self._net = SafetyNet()

    def __call__(self, pairs: Sequence[PairImages]) -> list[Scored | Rejected]:
        """One answer per pair (check `not_comparable`: sizes that differ, or sides below 11 px)."""
        answers: list[Scored | Rejected | None] = [_refused(pair) for pair in pairs]
        fit = [i for i, why in enumerate(answers) if why is None]
        if fit:
            found = score_pairs(self._net, [pairs[i].before for i in fit], [pairs[i].after for i in fit])
            for row, i in enumerate(fit):
                vectors = {
                    "change.safety": found.direction[row],
                    "before.layout": found.layout[0][row],
                    "after.layout": found.layout[1][row],
                    "before.outline": found.outline[0][row],
                    "after.outline": found.outline[1][row],
                }
                hashes = dict(zip(("before", "after"), found.phash[row], strict=True))
                answers[i] = Scored(found.scores[row], vectors, hashes)
        return [answer for answer in answers if answer is not None]


def _refused(pair: PairImages) -> Rejected | None:
    try:
        check_comparable(pair.before, pair.after)
    except ValueError as error:
        return Rejected("not_comparable", str(error))
    return None
