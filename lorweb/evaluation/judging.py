"""The third row function of the evaluate stage: a judge grades an answer, or prefers one of two.

The judge sees a, a', b and one or two answers, and no words about the edit. It is asked about the answers from the
first noise of an analogy. A reply that is no verdict is asked for again; a question without a verdict is a row that
says so, and has no number.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from lorweb.data.rejects import Rejected
from lorweb.data.scorers.judge_asking import NoVerdict, ask_until_valid, judge_of, seed_of_attempt
from lorweb.data.scorers.judge_endpoint import Unanswered
from lorweb.data.scorers.judge_reply import Question
from lorweb.data.shards import RowReader
from lorweb.evaluation.entries import AnswerJudge
from lorweb.evaluation.judge_prompts import COMPARE, GRADE, Grades, Preference, parse_grades, parse_preference
from lorweb.evaluation.workers import ANSWER, Sources, decode_quadrant
from lorweb.records import PAIR

JUDGE_VERSION: Final = "1"  # goes up when the same judge would be asked otherwise

JUDGED: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # "grade:<model>:<analogy>", "compare:<rival>:<analogy>:<order>"
        pa.field("analogy", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),  # the graded model, or the rival of lorweb
        pa.field("first", pa.string(), nullable=False),  # the model that was shown first, "" for a grade
        pa.field("accuracy", pa.int8()),  # 1..10, null without a verdict and for comparisons
        pa.field("preservation", pa.int8()),
        pa.field("preferred", pa.string()),  # the model that was preferred, null without a verdict and for grades
        pa.field("invalid_replies", pa.int16(), nullable=False),
        pa.field("note", pa.string(), nullable=False),  # why, in the judge's words, or why its replies are no verdict
    ]
)


class JudgeAnswers:
    """Items {id, analogy, model, shown: models, images: hashes, at: {exemplar, query, answers: places}} -> JUDGED rows.

    One model in `shown` is graded, two are compared in that order.
    """

    def __init__(self, sources: Sources, answers: Path, cfg: AnswerJudge) -> None:
        self.cfg, self.size = cfg, sources.size()
        self.ask = judge_of(cfg, cfg.pool.gpus)
        self.pairs = RowReader(sources.pairs, PAIR, ["id", "before", "after"])
        self.answers = RowReader(answers, ANSWER, ["id", "image"])

    def __call__(self, items: list[dict[str, Any]]) -> list[dict[str, Any] | Rejected]:
        return [self._one(item) for item in items]

    def _one(self, item: Mapping[str, Any]) -> dict[str, Any] | Rejected:
        comparing = len(item["shown"]) == 2
        question = Question.showing(self._images(item["at"]), COMPARE if comparing else GRADE, self.cfg.side)
        asked = (json.dumps(item["images"]), comparing)
        seeds = [seed_of_attempt(*asked, attempt) for attempt in range(self.cfg.retries + 1)]
        row = {name: item[name] for name in ("id", "analogy", "model")}
        row |= {"first": item["shown"][0] if comparing else "", "accuracy": None, "preservation": None}
        row |= {"preferred": None}
        try:
            if comparing:
                preference, invalid = ask_until_valid(self.ask, question, parse_preference, seeds)
                found = _preferred(preference, item["shown"])
            else:
                grades, invalid = ask_until_valid(self.ask, question, parse_grades, seeds)
                found = _graded(grades)
        except NoVerdict as why:
            return {**row, "invalid_replies": why.replies, "note": why.reason}
        except Unanswered as why:
            return Rejected("error", str(why))  # the check that the next run tries again
        return {**row, **found, "invalid_replies": len(invalid)}

    def _images(self, at: Mapping[str, Any]) -> tuple[Any, ...]:
        exemplar, query = (self.pairs(at[name]) for name in ("exemplar", "query"))
        stored = [exemplar["before"], exemplar["after"], query["before"]]
        stored += [self.answers(place)["image"] for place in at["answers"]]
        return tuple(decode_quadrant(png, self.size) for png in stored)


def _graded(grades: Grades) -> dict[str, Any]:
    return {"accuracy": grades.accuracy, "preservation": grades.preservation, "note": grades.explanation}


def _preferred(preference: Preference, shown: list[str]) -> dict[str, Any]:
    return {"preferred": shown[preference.better - 1], "note": preference.explanation}
