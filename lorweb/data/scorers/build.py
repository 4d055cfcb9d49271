"""From parameters to scorers: what is known of one before it is loaded, and the loaded one.

Every kind is imported where it is asked for: the packaged scorer alone needs no torch, and a change in the code of one
kind leaves the finished work of the others alone.
"""

import re
from typing import Any, Final

from lorweb.data.plugins import code_of, load_class
from lorweb.data.scorers.base import Scorer, ScorerFacts
from lorweb.data.scorers.entries import (
    AestheticConfig,
    ClassifierConfig,
    ClipConfig,
    DinoConfig,
    EmbeddedScorerConfig,
    FeaturesConfig,
    JudgeConfig,
    LpipsConfig,
    PythonScorerConfig,
    ScorerConfig,
)
from lorweb.hub import first_line
from lorweb.records import stable_id

_READS: Final = ("instruction", "caption", "edit_type")
_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,40}")


def describe(cfg: ScorerConfig) -> ScorerFacts:  # noqa: PLR0911 (one line for each kind)
    """Name, revision and keys of a scorer, without loading a network where that can be avoided.

    Raises:
        FileNotFoundError, ValueError: what it needs is not there; the sentence says what to do.
    """
    match cfg:
        case EmbeddedScorerConfig():
            from lorweb.data.scorers.embedded import describe_embedded

            return describe_embedded()
        case FeaturesConfig():
            from lorweb.data.scorers.features import describe_features

            return describe_features(cfg)
        case ClipConfig():
            from lorweb.data.scorers.clip import describe_clip

            return describe_clip(cfg)
        case DinoConfig():
            from lorweb.data.scorers.features import describe_dino

            return describe_dino(cfg)
        case LpipsConfig():
            from lorweb.data.scorers.lpips import describe_lpips

            return describe_lpips(cfg)
        case AestheticConfig():
            from lorweb.data.scorers.aesthetic import describe_aesthetic

            return describe_aesthetic(cfg)
        case ClassifierConfig():
            from lorweb.data.scorers.classifier import describe_classifier

            return describe_classifier(cfg)
        case JudgeConfig():
            from lorweb.data.scorers.judge import describe_judge

            return describe_judge(cfg)
        case PythonScorerConfig():
            return _describe_python(cfg)


def build_scorer(cfg: ScorerConfig, facts: ScorerFacts) -> Scorer:  # noqa: PLR0911 (one line for each kind)
    """The loaded scorer of an entry; `facts` is what `describe` gave. Raises as `describe` does."""
    match cfg:
        case EmbeddedScorerConfig():
            from lorweb.data.scorers.embedded import EmbeddedScorer

            return EmbeddedScorer(facts)
        case FeaturesConfig():
            from lorweb.data.scorers.features import build_features

            return build_features(cfg, facts)
        case ClipConfig():
            from lorweb.data.scorers.clip import ClipScorer

            return ClipScorer(cfg, facts)
        case DinoConfig():
            from lorweb.data.scorers.features import build_dino

            return build_dino(cfg, facts)
        case LpipsConfig():
            from lorweb.data.scorers.lpips import LpipsScorer

            return LpipsScorer(cfg, facts)
        case AestheticConfig():
            from lorweb.data.scorers.aesthetic import AestheticScorer

            return AestheticScorer(cfg, facts)
        case ClassifierConfig():
            from lorweb.data.scorers.classifier import ClassifierScorer

            return ClassifierScorer(cfg, facts)
        case JudgeConfig():
            from lorweb.data.scorers.judge import JudgeScorer

            return JudgeScorer(cfg, facts)
        case PythonScorerConfig():
            return _build_python(cfg)


def _describe_python(cfg: PythonScorerConfig) -> ScorerFacts:
    """The class tells its name, revision and keys, and if it likes encoders, places, hashes and reads (ScorerFacts)."""
    where = f"scorer '{cfg.class_}'"
    cls: Any = load_class(cfg.class_, where)
    for attribute in ("name", "revision"):
        if not isinstance(getattr(cls, attribute, None), str) or not getattr(cls, attribute):
            raise ValueError(f"{where}: the class has no text '{attribute}'; write {attribute} = \"...\" into it")
    if not _NAME.fullmatch(cls.name):
        raise ValueError(f"{where}: its name is '{cls.name}'; use up to 40 letters, digits and '_'")
    told = {name: getattr(cls, name, ()) for name in ("keys", "encoders", "places", "reads")}
    for name, texts in told.items():
        if not isinstance(texts, tuple | list) or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"{where}: {name} is {texts!r}, not a tuple of texts")
    if not told["keys"]:
        raise ValueError(f'{where}: the class has no keys; write keys = ("my_score",) into it')
    unknown = [name for name in told["reads"] if name not in _READS]
    if unknown:
        raise ValueError(f"{where}: reads names '{unknown[0]}'; there are {', '.join(_READS)}")
    if not any("__call__" in vars(base) for base in cls.__mro__[:-1]):
        raise ValueError(f"{where}: the class cannot be called; give it __call__(self, pairs) (lorweb.data.scorers)")
    keys, encoders, places, reads = (tuple(texts) for texts in told.values())
    revision = stable_id(cls.revision, code_of(cls), sorted(cfg.options.items()))
    return ScorerFacts(cls.name, revision, keys, encoders, places, bool(getattr(cls, "hashes", False)), reads)


def _build_python(cfg: PythonScorerConfig) -> Scorer:
    cls: Any = load_class(cfg.class_, f"scorer '{cfg.class_}'")
    try:
        scorer: Scorer = cls(cfg.options)
    except ValueError:
        raise
    except Exception as error:  # user code: anything may go wrong in it
        raise ValueError(
            f"scorer '{cfg.class_}' could not be made with options {cfg.options}: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error
    return scorer
