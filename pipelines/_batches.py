"""Work that waits, on disk: batches of items as lines of JSON, read by number from any process that sees the folder."""

import json
import secrets
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

Item = dict[str, Any]  # JSON values only; `id` names it, and it holds or hashes every input of the row


@dataclass(frozen=True)
class Batches:
    """A file of batches; `starts` are the offsets of its lines, and of its end."""

    path: Path
    starts: Sequence[int]

    @classmethod
    def write(cls, folder: Path, items: Iterable[Item], size: int) -> "Batches":
        """Write items, as they come, in batches of `size`; they are never all in memory."""
        path = folder / f"todo-{secrets.token_hex(8)}.jsonl"  # a driver's own: others may work in the same journal
        partial, starts = path.with_suffix(".tmp"), array("Q", [0])
        with partial.open("wb") as file:
            waiting = iter(items)
            while batch := list(islice(waiting, size)):
                line = json.dumps(batch).encode() + b"\n"
                file.write(line)
                starts.append(file.tell())
        partial.replace(path)
        return cls(path, starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < len(self):
            raise IndexError(number)
        with self.path.open("rb") as file:
            file.seek(self.starts[number])
            return file.read(self.starts[number + 1] - self.starts[number]).decode()

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))
