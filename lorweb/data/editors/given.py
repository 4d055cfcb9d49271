"""Pairs that exist: nothing is edited, the after-image is looked up beside the sources."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from lorweb.data.catalogue import Task
from lorweb.data.decode import decode_rgb
from lorweb.data.editors.base import EditRequest, SeedBy
from lorweb.data.rejects import Rejected
from lorweb.data.shards import RowReader, read_index
from lorweb.records import GIVEN
from lorweb.storage.places import local

FOLDER: Final = "given"  # of data/sources
_FACTS: Final = ["source", "task", "edit_type", "instruction", "sha256"]
_MAX_PIXELS: Final = 1 << 28  # they were decoded under the run's own limit already


def read_given(sources: Path) -> list[dict[str, Any]]:
    """`records.GIVEN` of every given pair but its image, and `at`.

    Raises:
        ValueError: the sources hold no given pairs.
    """
    if not local(sources / FOLDER).is_dir():
        raise ValueError(
            f"editor 'given' finds no {sources / FOLDER}; add a reader of pairs to collect.readers, or drop the editor"
        )
    return read_index(sources / FOLDER, GIVEN, _FACTS)


def given_tasks(rows: Sequence[dict[str, Any]]) -> dict[str, Task]:
    """The tasks of given pairs, with every instruction that one of them has.

    Raises:
        ValueError: pairs of one task have different edit types.
    """
    types: dict[str, str] = {}
    said: dict[str, set[str]] = {}
    for row in rows:
        if types.setdefault(row["task"], row["edit_type"]) != row["edit_type"]:
            raise ValueError(
                f"given pairs of task '{row['task']}' are of edit type '{types[row['task']]}' and of "
                f"'{row['edit_type']}'; give the task one type in its reader"
            )
        said.setdefault(row["task"], set()).add(row["instruction"])
    return {name: Task(name, types[name], (), tuple(sorted(said[name])), ("*",), None) for name in sorted(types)}


class GivenEditor:
    """Looks up the after-image of a source."""

    name = "given"
    revision = "1"
    seed_by: SeedBy = "task"

    def __init__(self, sources: Path) -> None:
        """`sources` is data/sources. Raises ValueError where no pairs are given."""
        self.places = {row["source"]: row["at"] for row in read_given(sources)}
        self.rows = RowReader(sources / FOLDER, GIVEN, ["after", "sha256"])

    def __call__(self, batch: Sequence[EditRequest]) -> list[Image.Image | Rejected]:
        """The given after-images (checks `no_pair`, `damaged`, and those of `decode_rgb`)."""
        return [self._look_up(request) for request in batch]

    def _look_up(self, request: EditRequest) -> Image.Image | Rejected:
        at = self.places.get(request.source.id)
        if at is None:
            return Rejected("no_pair", f"source {request.source.id} has no given after-image")
        row = self.rows(at)
        if hashlib.sha256(row["after"]).hexdigest() != row["sha256"]:
            return Rejected("damaged", f"the after-image of source {request.source.id} is not what its sha256 says")
        try:
            return decode_rgb(row["after"], _MAX_PIXELS)
        except Rejected as why:
            return why
