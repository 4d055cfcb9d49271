"""Assemble: which training pairs start from an image like an evaluated one, asked of what the filter stage has kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorweb.config import Alike
from lorweb.data.checks import Refusal, reject
from lorweb.data.near_evaluation import alike_by_content, alike_by_look
from lorweb.data.rejects import Rejected
from lorweb.data.shards import iter_tables, read_table
from lorweb.records import LOOK, unpack_features
from pipelines._stage import StageFailed

PAIRS: Final = Path("data/pairs")


def near_evaluation(train: list[str], evaluated: list[str], cfg: Alike) -> dict[str, dict[str, Any]]:
    """Training pairs that start from an image like an evaluated one: {pair: row of `records.REJECT`}.

    Raises:
        StageFailed: content is asked for, and no scorer of the filter gave features.
    """
    rows = read_table(PAIRS / "look", LOOK, ["id", "before_hash"]).to_pylist()
    look = {row["id"]: int(row["before_hash"], 16) for row in rows}
    whys = {
        name: Rejected("near_evaluation", f"its image a looks like that of pair {other}", None, cfg.distance)
        for name, other in alike_by_look(train, evaluated, look, cfg.distance).items()
    }
    if cfg.cosine is not None:
        alike = alike_by_content(train, evaluated, contents, cfg.cosine)
        for name, other in alike.items():
            reason = f"its image a has the content of that of pair {other}"
            whys.setdefault(name, Rejected("near_evaluation_content", reason, None, cfg.cosine))
    return {name: reject(Refusal(name, "assemble", {}), why) for name, why in sorted(whys.items())}


def contents() -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Features of the image a of every pair, in chunks."""
    for table in iter_tables(PAIRS / "look", LOOK, ["id", "content"]):
        rows = [unpack_features(value) for value in table["content"].to_pylist()]
        if any(len(row) == 0 for row in rows):
            raise StageFailed(
                "assemble.near_evaluation.cosine needs features of the images, and no scorer of filter.scorers gives "
                "any; add one (docs/data_scorers.md), or set it to null"
            )
        yield table["id"].to_pylist(), np.stack(rows)
