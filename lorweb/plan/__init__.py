"""What a training would need, before anything is loaded: memory by component and phase, time, disk, and what fits."""

from lorweb.plan.report import Plan, make_plan

__all__ = ["Plan", "make_plan"]
