"""Collect: the worker that reads sources."""

from typing import Final

import pyarrow as pa

from lorweb.data.readers import GivenPair, Location, ReaderConfig, build_reader
from lorweb.data.readers.files import printable
from lorweb.data.rejects import Rejected
from lorweb.records import GIVEN, SOURCE
from lorweb.storage.fetched import here
from pipelines._rows import Item, Result

# What a worker gives: a source, and beside it the fields of a given pair, null where the source is alone.
GIVEN_FIELDS: Final = {f"given_{f.name}": f for f in GIVEN if f.name != "source"}
READ: Final = pa.schema([*SOURCE, *(f.with_name(name).with_nullable(True) for name, f in GIVEN_FIELDS.items())])


class ReadSources:
    """The worker: locations -> source rows, with the fields of a given pair where the reader brings pairs."""

    def __init__(self, readers: tuple[ReaderConfig, ...], size: int, max_pixels: int) -> None:
        self.readers = [build_reader(cfg) for cfg in readers]
        self.size, self.max_pixels = size, max_pixels

    def __call__(self, items: list[Item]) -> list[Result]:
        return [self._read(item) for item in items]

    def _read(self, item: Item) -> Result:
        number, uri = item["at"]
        place = Location(item["origin"], here(uri), item["known"])
        try:
            if item["fault"]:
                raise Rejected(*item["fault"])
            row = self.readers[number].read(place, self.size, self.max_pixels)
        except Rejected as why:  # names of files are in it: one line, of characters that can be stored
            return Rejected(why.check, printable(why.reason), why.value, why.threshold)
        if not isinstance(row, GivenPair):
            return dict(row) | dict.fromkeys(GIVEN_FIELDS)
        return dict(row.source) | {name: row.given[f.name] for name, f in GIVEN_FIELDS.items()}  # type: ignore[literal-required]
