"""Which grids the encode stage has to see as whole pictures, and what the encoded data cost."""

from pathlib import Path

from lorweb.basis.query import sees_grid
from lorweb.config import Encode
from lorweb.data.shards import read_table
from lorweb.records import ANALOGY
from lorweb.training.dataset import load_train_pairs
from lorweb.training.sampler import AnalogySampler, other_exemplar
from lorweb.training.stored import grid_key
from pipelines._results import Results
from pipelines._rows import Item


def check_grids(cfg: Encode) -> None:
    """Refuse grids that nobody asks for, and a mode that looks at grids without any. Raises ValueError."""
    looks, whole = sees_grid(cfg.query_mode), cfg.latents == "grid"
    if (looks or whole) == bool(cfg.grid_analogies):
        return
    wants = (
        "looks at grids; set it to how many" if looks else "sees single images and latents are 'quadrant'; set it to 0:"
    )
    raise ValueError(
        f"encode.grid_analogies is {cfg.grid_analogies}, but query_mode '{cfg.query_mode}' {wants} training "
        "analogies are to be encoded as grids"
    )


def wanted_grids(cfg: Encode, analogies: Path) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """(exemplar, query) pair ids of every analogy whose grid may be asked for, and those also asked without an edit.

    The training pool, and each listed analogy with its own and with another task's exemplar, and with a in the place of
    a'.
    """
    sampler = AnalogySampler(load_train_pairs(analogies), 0, 1, 1.0)
    drawn = [sampler.pooled(index) for index in range(cfg.grid_analogies)]
    found = {(exemplar.pair, query.pair) for exemplar, query in drawn}
    listed = read_table(analogies, ANALOGY).to_pylist()
    own: set[tuple[str, str]] = set()
    for split in ("val", "test"):
        rows = [row for row in listed if row["split"] == split]
        own |= {(row["exemplar"], row["query"]) for row in rows}
        found |= own | {(other_exemplar(row, rows) or row["exemplar"], row["query"]) for row in rows}
    return found, own


def grid_items(cfg: Encode, analogies: Path, images: list[Item], links: list[dict[str, str]]) -> list[Item]:
    """Items of the grids to encode, each once by content; [] where training and evaluation need none.

    Three images are a control grid; four a target grid, where grids are encoded whole. Raises ValueError for numbers
    and modes that do not fit.
    """
    check_grids(cfg)
    if not cfg.grid_analogies:
        return []
    place = {item["id"]: item["at"] for item in images}
    pair = {link["pair"]: link for link in links}
    shown, unedited = wanted_grids(cfg, analogies)
    keys: set[tuple[str, ...]] = set()
    for exemplar, query in shown:
        a, a2, b, b2 = (pair[name][side] for name in (exemplar, query) for side in ("before", "after"))
        keys |= {(a, a2, b)} | ({(a, a2, b, b2)} if cfg.latents == "grid" else set())
    for exemplar, query in unedited:
        a, b, b2 = pair[exemplar]["before"], pair[query]["before"], pair[query]["after"]
        keys |= {(a, a, b)} | ({(a, a, b, b2)} if cfg.latents == "grid" else set())
    return [{"id": grid_key(*names), "at": [place[name] for name in names]} for names in sorted(keys)]


def sizes(images: Results, texts: Results, grids: Results | None) -> dict[str, int]:
    """Bytes that 1000 training analogies read: as they are stored, where images and texts are shared by many, and as
    they would be if each analogy kept its own target and control grid, query and text.

    Where grids are encoded whole, each analogy does keep its own: two rows of `per_grid` bytes.
    """
    image, text = _tensor_bytes(images), _tensor_bytes(texts)
    grid = 0 if grids is None else _tensor_bytes(grids)
    per_image, per_text = image / max(1, len(images)), text / max(1, len(texts))
    per_grid = 0 if grids is None else grid / max(1, len(grids))
    # two grids of four quadrants each, or of their own; the query's features ride with them
    naive = 1000 * (max(8 * per_image, 2 * per_grid) + per_text)
    return {
        "stored_in_all": image + text + grid,
        "naive": round(naive),
        "per_image": round(per_image),
        "per_text": round(per_text),
        "per_grid": round(per_grid),
    }


def _tensor_bytes(results: Results) -> int:
    return sum(table["tensors"].nbytes for table in results.tables(columns=["tensors"]))
