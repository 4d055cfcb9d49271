"""Commands that look at models without running them. Thin, like `lorweb.cli`, which adds them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from lorweb.basis.health import Health

WORST: Final = 5  # layers in the table


def health(
    model: Annotated[str, typer.Argument(help="A model folder, its safetensors file, or an MLflow URI.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for health.json and health.png.")],
    data: Annotated[Path, typer.Option(help="Pipeline data: the test analogies below it are the queries.")] = Path(
        "data"
    ),
    triples: Annotated[
        Path | None, typer.Option(help="Instead: a folder of folders, each with images a, a2 and b.")
    ] = None,
) -> None:
    """Say whether the basis is used: entropy, dead and duplicate atoms, ranks, constancy; as JSON and as one picture.

    Example: lorweb health models/candidate -o reports/health
    """
    from lorweb import model_health
    from lorweb.commands import model_file

    found = model_health.measure(model_file(model), data, triples)
    written = model_health.write(found, out)
    _show(found)
    for path in written:
        typer.echo(str(path))


def _show(found: "Health") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    meaning = {
        "effective_loras": f"LoRAs that one query uses, of {found.atoms // len(found.layers)}",
        "variation": "of the coefficients over queries: 0 = constant router, 1 = nothing in common",
        "update_variation": "share of the update that moves with the query: 0 = one static LoRA",
        "dead_atoms": f"of {found.atoms} atoms in {len(found.layers)} layers",
        "duplicate_pairs": "pairs of atoms of one layer that point the same way",
        "basis_rank": "distinct atoms per layer",
        "update_rank": "effective rank of one update",
        "update_norm": "of one update, over all layers",
        "queries": "analogies asked",
    }
    totals = Table(box=None, show_header=False)
    for key, text in meaning.items():
        totals.add_row(key, f"{getattr(found, key):.4g}", text)
    console.print(totals)
    worst = Table("look first at", "dead", "duplicates", "moves", "rank", "norm", box=None)
    for name in found.worst(WORST):
        row = found.layers[name]
        numbers = (f"{row.update_variation:.2f}", f"{row.update_rank:.1f}", f"{row.update_norm:.3g}")
        worst.add_row(name, str(len(row.dead)), str(len(row.duplicates)), *numbers)
    console.print(worst)
