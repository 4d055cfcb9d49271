"""What a run has come to, on one screen: `python -m pipelines.summary`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorweb.evaluation.results import CELLS, HEADLINE

if TYPE_CHECKING:
    from rich.console import Console

STAGES: Final = ("collect", "generate", "filter", "assemble", "encode", "train", "evaluate", "promote")
METRICS: Final = (HEADLINE, "color_to_truth", "perceptual_to_truth")
WIDTH: Final = 120  # characters, where the output is no terminal


def print_summary(root: Path) -> None:
    """Rows per stage, losses, the comparison, the decision, and where to look. What is not there yet is left out."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    stages = {name: _read(root / "metrics" / f"{name}.json") for name in STAGES}
    _stages(console, {name: found for name, found in stages.items() if found is not None})
    metrics = _read(root / "reports" / "metrics.json") or {}
    for metric in METRICS:
        _comparison(console, metrics, metric)
    _differences(console, _read(root / "reports" / "paired.json") or {})
    decision = _read(root / "models" / "promoted.json")
    _decision(console, decision)
    _places(console, root, "" if (decision or {}).get("champion") else " --model models/candidate")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _stages(console: "Console", stages: dict[str, dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("stage", "rows in", "kept", "rejected", "seconds", title="stages", title_justify="left")
    for name, found in stages.items():
        rejected = ", ".join(f"{check} {count}" for check, count in sorted(found.get("rejected", {}).items()))
        kept = found.get("kept", found.get("train_pairs", ""))
        table.add_row(name, str(found.get("rows_in", "")), str(kept), rejected, str(found.get("seconds", "")))
    if stages:
        console.print(table)
    _losses(console, stages.get("train", {}))


def _losses(console: "Console", train: dict[str, Any]) -> None:
    """Validation losses on fixed noise, of b' alone, with the true and with another task's exemplar."""
    from rich.table import Table

    variants = {name: found for name, found in train.items() if isinstance(found, dict)}
    names = [key for key in next(iter(variants.values()), {}) if key.startswith("validation_")]
    if not names:
        return
    table = Table("loss on fixed noise", *(name.removeprefix("validation_") for name in names), title_justify="left")
    for variant, found in variants.items():
        table.add_row(variant, *(f"{found[name]:.4f}" if name in found else "" for name in names))
    console.print(table)


def _comparison(console: "Console", metrics: dict[str, Any], metric: str) -> None:
    from rich.table import Table

    cells = [cell for cell in CELLS if cell in metrics]
    if not cells:
        return
    table = Table("model", *cells, title=f"{metric} (smaller is better; 95 % interval)", title_justify="left")
    models = list(dict.fromkeys(model for cell in cells for model in metrics[cell]))
    for model in models:
        found = [metrics[cell].get(model, {}).get(metric) for cell in cells]
        values = [f"{f['mean']:.4f} [dim]{f['low']:.3f}–{f['high']:.3f}[/]" if f else "" for f in found]
        table.add_row(f"[bold]{model}[/]" if model == "lorweb" else model, *values)
    console.print(table)


def _differences(console: "Console", facts: dict[str, Any]) -> None:
    """What models differ by on the same analogies: a negative number is in favour of the first one named."""
    from rich.table import Table

    paired = facts.get("paired", {})
    cells = [cell for cell in CELLS if any(cell in found for found in paired.values())]
    if not cells:
        return
    table = Table("paired difference", *cells, title=f"{facts['metric']}, per analogy", title_justify="left")
    for name, found in paired.items():
        values = [
            f"{v['mean']:+.4f} [dim]{v['low']:+.3f} {v['high']:+.3f}[/]" if v else "" for v in map(found.get, cells)
        ]
        table.add_row(name, *values)
    console.print(table)


def _decision(console: "Console", record: dict[str, Any] | None) -> None:
    if record is None:
        return
    colour = {"promoted": "green", "refused": "red"}.get(record["decision"], "yellow")
    console.print(f"\n[bold {colour}]{record['decision'].upper()}[/]: {record['model']} version {record['version']}")
    for reason in record["reasons"]:
        console.print(f"  - {reason}", markup=False, highlight=False)
    if compared := record.get("compared"):
        console.print(f"  compared with the {compared['with']}: {compared['how']}", markup=False, highlight=False)
    stands = (f"version {record[alias]}" if record[alias] else "none yet" for alias in ("champion", "previous"))
    console.print("  champion: {}, previous: {}".format(*stands))


def _places(console: "Console", root: Path, model: str) -> None:
    """`model` is the option that a command needs while there is no champion."""
    console.print("\nwhere to look")
    for path, what in (
        ("reports/index.html", "numbers, pictures, charts"),
        ("models/promoted.json", "the decision with its reasons and lineage"),
        ("models/candidate", f"the trained basis; try `lorweb apply A.png A2.png B.png -o OUT.png{model}`"),
        (
            "mlflow.db",
            "runs and registry; `lorweb registry list`, or `mlflow ui --backend-store-uri sqlite:///mlflow.db`",
        ),
    ):
        if (root / path).exists():
            console.print(f"  {path}: {what}", markup=False, highlight=False)


if __name__ == "__main__":
    print_summary(Path())
