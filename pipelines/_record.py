"""Which options ran: every stage that reached its end says so, where LORWEB_RECORD_OPTIONS names a file.

One line of JSON each, appended, so that many processes may write at once. docs/options.md is made from such files
(`make options`).
"""

import json
import os
from pathlib import Path
from typing import Final

import yaml

RECORD: Final = "LORWEB_RECORD_OPTIONS"


def record(stage: str, params: Path = Path("params.yaml")) -> None:
    """Say that a stage ran to its end on these parameters. Does nothing where the variable is not set."""
    path = os.environ.get(RECORD)
    if not path or not params.is_file():
        return
    import torch

    line = {
        "stage": stage,
        "test": os.environ.get("PYTEST_CURRENT_TEST", ""),  # set by pytest, for its child processes too
        "cuda": torch.cuda.is_available(),
        "params": yaml.safe_load(params.read_text(encoding="utf-8")),
    }
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
