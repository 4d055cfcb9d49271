"""Commands that look at models and thresholds without running them. Thin, like `lorweb.cli`, which adds them."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lorweb.cli_options import MODEL_HELP, Json, complete_model
from lorweb.cli_output import busy, print_json, say
from lorweb.terminal import one_line

if TYPE_CHECKING:
    from lorweb.basis.health import Health
    from lorweb.calibrate import Bound, Sample

WORST: Final = 5  # layers in the table


def health(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, autocompletion=complete_model)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for health.json and health.png.")],
    data: Annotated[Path, typer.Option(help="Pipeline data: the test analogies below it are the queries.")] = Path(
        "data"
    ),
    triples: Annotated[
        Path | None, typer.Option(help="Instead: a folder of folders, each with images a, a2 and b.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether the basis is used: entropy, dead and duplicate atoms, ranks, constancy; as JSON and as one picture.

    Example: lorweb health models/candidate -o reports/health
    """
    from lorweb import model_health
    from lorweb.basis.health_files import write_health
    from lorweb.commands import model_file
    from lorweb.outputs import check_no_model

    check_no_model(out)
    with busy("measure"):
        found = model_health.measure(model_file(model), data, triples)
        written = write_health(found, out)
    if as_json:
        print_json({"written": [str(path) for path in written], "health": json.loads(found.to_json())})
        return
    _show_health(found)
    for path in written:
        say(path)


def calibrate(  # noqa: PLR0913, PLR0917  one parameter per option
    labels: Annotated[Path, typer.Argument(help='JSON list of the bad pairs: [{"id": ..., "kind": ...}, ...].')],
    data: Annotated[Path, typer.Option(help="Pipeline data whose candidates were scored by the filter stage.")] = Path(
        "data"
    ),
    params: Annotated[Path, typer.Option(help="Parameter file with the checks.")] = Path("params.yaml"),
    loss: Annotated[float, typer.Option(help="Share of good pairs that each bound may lose.")] = 0.01,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML page with the survival curves.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the new thresholds into the parameter file.")] = False,
    as_json: Json = False,
) -> None:
    """Say where the filter's thresholds should lie, from a sample with known bad pairs; nothing is measured again.

    Example: lorweb calibrate planted.json --loss 0.01 -o reports/calibration.html
    """
    from lorweb import calibrate as work
    from lorweb.config import load_params
    from lorweb.outputs import check_kept

    if out is not None:
        check_kept([out], [labels, params])
    samples = work.read_samples(data, labels)
    bounds = work.calibrate(samples, load_params(params).filter.checks, loss)
    if out is not None:
        work.write_page(out, samples, bounds)
    if write:
        work.write_thresholds(params, bounds)
    if as_json:
        counts = dict(Counter(sample.kind for sample in samples))
        print_json({"pairs": counts, "bounds": [asdict(bound) for bound in bounds], "written": write})
        return
    _show_bounds(bounds, samples)
    if out is not None:
        say(out)
    if write:
        say(f"{params}: {len(bounds)} thresholds; run dvc repro, nothing is generated or scored again")


def _show_bounds(bounds: "list[Bound]", samples: "list[Sample]") -> None:
    from rich.console import Console
    from rich.table import Table

    kinds = sorted({kind for bound in bounds for kind in bound.caught})
    good = sum(sample.kind == "good" for sample in samples)
    table = Table("bound", "now", "calibrated", "good lost", *kinds, box=None)
    for bound in bounds:
        caught = [f"{bound.caught[kind]:.3f}" if kind in bound.caught else "" for kind in kinds]
        table.add_row(bound.name, f"{bound.old:g}", f"{bound.new:g}", f"{bound.lost:.3f}", *caught)
    console = Console()
    console.width = max(console.width, 140)
    console.print(table)
    console.print(f"{good} good pairs, {len(samples) - good} bad ones; each bound alone: shares that it refuses")


def _show_health(found: "Health") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

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
        worst.add_row(Text(one_line(name)), str(len(row.dead)), str(len(row.duplicates)), *numbers)
    console.print(worst)
