"""Training without Ray says which options it ran, as the stages do by themselves (pipelines/_record.py)."""

import json
import os
from functools import wraps
from pathlib import Path
from typing import Any

from pipelines._record import RECORD


def record_workers() -> None:
    """From now on, every variant that a worker's loop trains to its end in this process leaves a line."""
    import torch

    from pipelines import _train_worker

    train_one = _train_worker.train_one

    @wraps(train_one)
    def recorded(plan: Any, name: str, *stop: Any) -> Any:
        history = train_one(plan, name, *stop)
        section = dict(plan.section)
        if name != "lorweb":
            section["baselines"] = [name]
        elif section["baselines"]:
            del section["baselines"]  # they have trainings of their own
        told = {"stage": "train", "worker": True, "cuda": torch.cuda.is_available(), "params": {"train": section}}
        with Path(os.environ[RECORD]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**told, "test": os.environ.get("PYTEST_CURRENT_TEST", "")}) + "\n")
        return history

    _train_worker.train_one = recorded
