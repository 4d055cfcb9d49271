"""Asking a judge until it gives a valid reply: a bounded number of times, each with a seed of its own."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from lorweb.data.scorers.entries import AskedModel
from lorweb.data.scorers.folders import device_for, model_at
from lorweb.data.scorers.judge_endpoint import EndpointJudge, Unanswered
from lorweb.data.scorers.judge_local import LocalJudge
from lorweb.data.scorers.judge_reply import BadReply, Question
from lorweb.kontext.files import base_revision
from lorweb.records import stable_id

PAUSE_S: Final = 0.5  # before a server that gave no answer is asked again
Ask = Callable[[Question, int], str]  # a question and a seed in [0, 2**31) -> the reply
Reply = TypeVar("Reply")


class NoVerdict(Exception):
    """All replies were invalid. `reason` is a sentence, `replies` how many there were."""

    def __init__(self, reason: str, replies: int) -> None:
        super().__init__(reason, replies)
        self.reason, self.replies = reason, replies


def judge_of(cfg: AskedModel, gpus: float) -> Ask:
    """The judge of some parameters, loaded where it is a folder. Raises FileNotFoundError or ValueError."""
    return EndpointJudge(cfg, cfg.endpoint) if cfg.endpoint else LocalJudge(cfg, device_for(gpus))


def judge_revision(cfg: AskedModel, prompt: object) -> str:
    """Changes whenever the same question may get another reply; `prompt` is the version of the words.

    Of a model behind an endpoint only its name and address are known: rename it when it changes.

    Raises:
        FileNotFoundError, ValueError: no such model folder.
    """
    told = cfg.endpoint.url if cfg.endpoint else base_revision(model_at("judge", cfg.model))
    named = cfg.model if cfg.endpoint else ""
    numbers = (cfg.side, cfg.max_new_tokens, cfg.temperature, cfg.retries, cfg.dtype)
    return stable_id(prompt, told, named, *numbers)


def seed_of_attempt(*parts: object) -> int:
    """A seed in [0, 2**31) that only the question and the number of the attempt decide."""
    return int(stable_id("judge", *parts)[:8], 16) >> 1


def ask_until_valid(
    ask: Ask, question: Question, parse: Callable[[str], Reply], seeds: list[int]
) -> tuple[Reply, list[str]]:
    """The first reply that `parse` takes, and what was wrong with those before it; one reply for each seed at most.

    Raises:
        NoVerdict: every reply was invalid.
        Unanswered: the judge could not be reached, at least at one attempt, and gave no valid reply at another.
    """
    invalid: list[str] = []
    silent: Unanswered | None = None
    for seed in seeds:
        try:
            return parse(ask(question, seed)), invalid
        except BadReply as why:
            invalid.append(str(why))
        except Unanswered as why:
            silent = why
            if why.final:
                break
            time.sleep(PAUSE_S)
    if silent is not None:
        raise silent
    raise NoVerdict(f"{len(invalid)} of {len(invalid)} replies are no verdict; the last: {invalid[-1]}", len(invalid))
