"""Scorers measure pairs: the packaged numbers, encoders, CLIP, DINO, LPIPS, heads, a judge, and the user's own."""

from lorweb.data.scorers.base import PairImages, Scored, Scorer, ScorerFacts

__all__ = ["PairImages", "Scored", "Scorer", "ScorerFacts"]
