"""A row function that reads shards, in a module that every process can import."""

import os
from pathlib import Path

import pyarrow as pa

from lorweb.data.rejects import Rejected
from lorweb.data.shards import RowReader

SOURCE = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("value", pa.large_binary())])
OUT = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("data", pa.large_binary())])


class Copy:
    """Reads rows of shards; one value raises, one is refused."""

    def __init__(self, folder: str) -> None:
        self.rows = RowReader(Path(folder), SOURCE)

    def __call__(self, items):
        return [self._one(item) for item in items]

    def _one(self, item):
        value = self.rows(item["at"])["value"]
        if value == b"3" and os.environ.get("RAISES"):
            raise RuntimeError("three")
        return Rejected("seven", "it is 7") if value == b"7" else {"id": item["id"], "data": value * 100}
