"""The judge: a vision language model grades what an edit did. Replies that are no verdict are asked for again."""

import hashlib
from collections.abc import Sequence
from typing import Final

from lorweb.data.rejects import Rejected
from lorweb.data.scorers.base import Known, PairImages, Scored, ScorerFacts
from lorweb.data.scorers.entries import JudgeConfig
from lorweb.data.scorers.judge_asking import NoVerdict, ask_until_valid, judge_of, judge_revision, seed_of_attempt
from lorweb.data.scorers.judge_endpoint import Unanswered
from lorweb.data.scorers.judge_reply import GRADES, PROMPT_VERSION, Question, Verdict, parse_verdict

KEYS: Final = (*(f"judge_{grade}" for grade in GRADES), "judge_overall", "judge_invalid")


class JudgeScorer(Known):
    """`judge_adherence`, `judge_quality`, `judge_preservation`, 1..10; `judge_overall`, their geometric mean;
    `judge_invalid`, 1 where no reply was a verdict, else 0.

    Without a verdict there are no grades: the pair keeps its other scores, and only a filter that uses a grade refuses
    it (check `judge_invalid`). A judge that cannot be reached is an `error`, which the next run tries again.
    """

    def __init__(self, cfg: JudgeConfig, facts: ScorerFacts) -> None:
        super().__init__(facts)
        self._cfg, self._ask = cfg, judge_of(cfg, cfg.pool.gpus)

    def __call__(self, pairs: Sequence[PairImages]) -> list[Scored | Rejected]:
        """One answer per pair; each takes up to 1 + retries replies, with seeds that come from the pair itself."""
        return [self._one(pair) for pair in pairs]

    def _one(self, pair: PairImages) -> Scored | Rejected:
        question = Question.about((pair.before, pair.after), pair.instruction, self._cfg.side)
        seen = hashlib.sha256(pair.before.tobytes() + pair.after.tobytes()).hexdigest()
        seeds = [seed_of_attempt(seen, pair.instruction, attempt) for attempt in range(self._cfg.retries + 1)]
        try:
            verdict, _ = ask_until_valid(self._ask, question, parse_verdict, seeds)
        except NoVerdict as why:
            lacks = Rejected("judge_invalid", why.reason, why.replies, self._cfg.retries)
            return Scored({"judge_invalid": 1.0}, notes={"judge": why.reason}, lacks=lacks)
        except Unanswered as why:
            return Rejected("error", str(why))
        return _graded(verdict)


def _graded(verdict: Verdict) -> Scored:
    grades = {f"judge_{name}": float(getattr(verdict, name)) for name in GRADES}
    return Scored({**grades, "judge_overall": verdict.overall, "judge_invalid": 0.0}, notes={"judge": verdict.reason})


def describe_judge(cfg: JudgeConfig) -> ScorerFacts:
    """Facts of a judge. Raises FileNotFoundError or ValueError: no such model folder."""
    return ScorerFacts("judge", judge_revision(cfg, PROMPT_VERSION), KEYS, reads=("instruction",))
