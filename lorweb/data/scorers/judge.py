"""The judge: a vision language model grades what an edit did. Replies that are no verdict are asked for again."""

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Final

from lorweb.data.rejects import Rejected
from lorweb.data.scorers.base import Known, PairImages, Scored, ScorerFacts
from lorweb.data.scorers.entries import JudgeConfig
from lorweb.data.scorers.folders import device_for, model_at
from lorweb.data.scorers.judge_endpoint import EndpointJudge, Unanswered
from lorweb.data.scorers.judge_local import LocalJudge
from lorweb.data.scorers.judge_reply import GRADES, PROMPT_VERSION, BadReply, Question, Verdict, parse_verdict
from lorweb.kontext.files import base_revision
from lorweb.records import stable_id

KEYS: Final = (*(f"judge_{grade}" for grade in GRADES), "judge_overall", "judge_invalid")
PAUSE_S: Final = 0.5  # before a server that gave no answer is asked again
Ask = Callable[[Question, int], str]  # a question and a seed in [0, 2**31) -> the reply


class JudgeScorer(Known):
    """`judge_adherence`, `judge_quality`, `judge_preservation`, 1..10; `judge_overall`, their geometric mean;
    `judge_invalid`, 1 where no reply was a verdict, else 0.

    Without a verdict there are no grades: the pair keeps its other scores, and only a filter that uses a grade refuses
    it (check `judge_invalid`). A judge that cannot be reached is an `error`, which the next run tries again.
    """

    def __init__(self, cfg: JudgeConfig, facts: ScorerFacts) -> None:
        super().__init__(facts)
        self._cfg = cfg
        self._ask: Ask = (
            EndpointJudge(cfg, cfg.endpoint) if cfg.endpoint else LocalJudge(cfg, device_for(cfg.pool.gpus))
        )

    def __call__(self, pairs: Sequence[PairImages]) -> list[Scored | Rejected]:
        """One answer per pair; each takes up to 1 + retries replies, with seeds that come from the pair itself."""
        return [self._one(pair) for pair in pairs]

    def _one(self, pair: PairImages) -> Scored | Rejected:
        question = Question.about((pair.before, pair.after), pair.instruction, self._cfg.side)
        seen = hashlib.sha256(pair.before.tobytes() + pair.after.tobytes()).hexdigest()
        invalid: list[str] = []
        silent: Unanswered | None = None
        for attempt in range(self._cfg.retries + 1):
            try:
                seed = int(stable_id("judge", seen, pair.instruction, attempt)[:8], 16) >> 1
                return _graded(parse_verdict(self._ask(question, seed)))
            except BadReply as why:
                invalid.append(str(why))
            except Unanswered as why:
                silent = why
                if why.final:
                    break
                time.sleep(PAUSE_S)
        if silent is not None:
            return Rejected("error", str(silent))
        reason = f"{len(invalid)} of {len(invalid)} replies are no verdict; the last: {invalid[-1]}"
        lacks = Rejected("judge_invalid", reason, len(invalid), self._cfg.retries)
        return Scored({"judge_invalid": 1.0}, notes={"judge": reason}, lacks=lacks)


def _graded(verdict: Verdict) -> Scored:
    grades = {f"judge_{name}": float(getattr(verdict, name)) for name in GRADES}
    return Scored({**grades, "judge_overall": verdict.overall, "judge_invalid": 0.0}, notes={"judge": verdict.reason})


def describe_judge(cfg: JudgeConfig) -> ScorerFacts:
    """Facts of a judge. Of a model behind an endpoint only its name and address are known: rename it when it changes.

    Raises:
        FileNotFoundError, ValueError: no such model folder.
    """
    told = cfg.endpoint.url if cfg.endpoint else base_revision(model_at("judge", cfg.model))
    named = cfg.model if cfg.endpoint else ""
    numbers = (cfg.side, cfg.max_new_tokens, cfg.temperature, cfg.retries, cfg.dtype)
    return ScorerFacts("judge", stable_id(PROMPT_VERSION, told, named, *numbers), KEYS, reads=("instruction",))
