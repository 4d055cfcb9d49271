"""A small project whose filter has the scorers that a test asks for."""

import re
from pathlib import Path
from typing import Any

from lorweb.data.shards import read_table, write_rows
from lorweb.records import PAIR, REJECT
from tests.pipelines.projects import POOL, ROOT, write_params

GUIDE = (ROOT / "docs/data_scorers.md").read_text(encoding="utf-8")
EMBEDDED = {"scorer": "embedded", "pool": POOL}
CHECKS = [{"score": "detail", "min": 0.0, "max": None, "edit_types": []}]
BRIGHT = {"scorer": "python", "class": "my_scorers:Brightness", "options": {"scale": 100}, "pool": POOL}


def eight_candidates(project: Path) -> Path:
    """Eight candidates, the guide's module beside them."""
    rows = read_table(project / "data/candidates", PAIR).to_pylist()[:8]
    write_rows(rows, project / "data/candidates", PAIR)
    (project / "my_scorers.py").write_text(re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)[1])
    return project


def use(folder: Path, *scorers: Any, checks: Any = CHECKS, **more: Any) -> None:
    """Parameters with these scorers, and no others."""
    write_params(folder, {"filter": {"scorers": list(scorers), "checks": checks, "relative": [], **more}})


def journals(folder: Path) -> dict[Path, int]:
    """The files of all scorers, and when they were written."""
    return {p: p.stat().st_mtime_ns for p in (folder / ".work/filter").rglob("rows-*.arrow")}


def told(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Kept pairs and rejects."""
    kept = read_table(folder / "data/pairs", PAIR).to_pylist()
    return kept, read_table(folder / "data/pairs/rejects", REJECT).to_pylist()
