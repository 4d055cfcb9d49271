"""Which scores there are, given a filter's scorers, and whether everything it names is among them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorweb.config_errors import unknown_name
from lorweb.data.scorers.base import ScorerFacts, check_facts
from lorweb.data.subjects import WEIGHTS

if TYPE_CHECKING:  # config reads the entries of this package
    from lorweb.config import Filter

STANDING = ".standing"


def task_names(facts: Sequence[ScorerFacts]) -> list[str]:
    """Scores that only a pair's task gives it (lorweb.data.decide), from the features of these scorers."""
    encoders = [name for own in facts for name in own.encoders]
    suffixes = ["", *(f".{name}" for name in encoders[1:])] if encoders else []
    names = [f"{name}{suffix}" for suffix in suffixes for name in ("direction", "magnitude", "edit")]
    return [*names, *(["subject"] if any(name in WEIGHTS for own in facts for name in own.places) else [])]


def scores_in_use(cfg: "Filter") -> set[str]:
    """The scores that decide about pairs."""
    best = [cfg.best.score] if cfg.best else []
    return {*(check.score for check in cfg.checks), *best, *cfg.relative}


def check_scorers(cfg: "Filter", facts: Sequence[ScorerFacts]) -> None:
    """Whether scorers go together and give what the filter names; asked before hours of scoring.

    Raises:
        ValueError: see `check_facts`; nobody gives perceptual hashes; a check, `best` or `relative` names a score that
            nobody gives.
    """
    given = task_names(facts)
    check_facts(facts, given)
    if not any(own.hashes for own in facts):
        raise ValueError(
            "filter.scorers has no scorer that gives perceptual hashes, by which duplicates are found; add "
            "{scorer: embedded, pool: ...}"
        )
    scores = [*(key for own in facts for key in own.keys), *given]
    known = [*scores, *(f"{name}{STANDING}" for name in cfg.relative)]
    named = [("checks", check.score, known) for check in cfg.checks]
    named += [("relative", name, scores) for name in cfg.relative]
    named += [("best", cfg.best.score, known)] if cfg.best else []
    for where, score, allowed in named:
        if score not in allowed:
            raise ValueError(f"filter.{where}: {unknown_name('score', score, allowed)}")
