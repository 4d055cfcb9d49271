"""A worker of known cost, for runs of the real row engine: it waits, and says when it did what.

It waits rather than computes, so that more actors than cores are no lie: what is measured is the engine.
"""

import os
import time
from typing import Any, Final

import pyarrow as pa

SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("actor", pa.int64(), nullable=False),  # its process
        pa.field("born", pa.float64(), nullable=False),  # s, when the worker was made
        pa.field("begun", pa.float64(), nullable=False),  # s, when the row's batch was begun
    ]
)


class Waits:
    """The worker: each row takes `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.born = seconds, time.time()

    def __call__(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        begun = time.time()
        if self.seconds:
            time.sleep(self.seconds * len(items))
        return [{"id": item["id"], "actor": os.getpid(), "born": self.born, "begun": begun} for item in items]
