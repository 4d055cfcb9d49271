"""`lorweb plan`: what training takes, before anything is loaded. Thin, like `lorweb.cli`, which adds it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorweb.cli_options import Json, Profile
from lorweb.cli_output import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from lorweb.sizes import BasisSize


def plan(  # noqa: PLR0913, PLR0917  one parameter per option
    base: Annotated[
        str | None, typer.Option(help="tiny, a folder, or a hub id; by default the base of the parameters.")
    ] = None,
    flux: Annotated[bool, typer.Option("--flux", help="FLUX.1-Kontext-dev as the base; nothing is fetched.")] = False,
    profile: Profile = None,
    gpu: Annotated[
        str | None, typer.Option(help="Device for the estimate of time: h100, a100, l40s, 4090, ...; cpu without GPUs.")
    ] = None,
    mfu: Annotated[float, typer.Option(help="Share of the device's peak FLOP/s that training reaches.")] = 0.3,
    images: Annotated[int | None, typer.Option(help="Encoded images; by default the most that are possible.")] = None,
    texts: Annotated[int | None, typer.Option(help="Distinct instructions, the empty one included; likewise.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON file for the same numbers.")] = None,
    as_json: Json = False,
) -> None:
    """Say what training takes before anything is loaded: sizes of bases to the unit, memory, time, disk, what fits.

    Example: lorweb plan --profile paper --gpu h100 -o plan.json
    """
    from lorweb import sizes
    from lorweb.outputs import check_kept, check_no_model
    from lorweb.plan.report import Given, make_plan
    from lorweb.plan.tables import show
    from lorweb.profiles import load_profile

    if flux and base is not None:
        raise ValueError(f"--flux and --base {base} are both given; give one of them")
    if out is not None:
        check_no_model(out.parent)
        check_kept([out], [Path("params.yaml"), *Path("profiles").glob("*.yaml")])  # one may extend another
    project = profile is not None or Path("params.yaml").is_file() or not (flux or base)
    params = load_profile(Path(), profile) if project else None
    chosen = sizes.KONTEXT if flux else base or (params.encode.base if params else "")
    found = sizes.basis_sizes(chosen, params, f"profile {profile}" if profile else "params.yaml")
    made = None
    if params is not None:
        usual = "h100" if params.train.gpus_per_worker else "cpu"
        made = make_plan(chosen, params, Given(gpu or usual, mfu, images, texts))
    tree = sizes.json_tree(found, chosen, made.tree() if made else None)
    if out is not None:
        sizes.write_json(tree, out)
    if as_json:
        print_json(tree)
        return
    console = _show_sizes(found, chosen)
    if made is not None:
        show(made, console)


def _show_sizes(found: "list[BasisSize]", base: str) -> "Console":
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{found[0].layers} layers of {base}", title_justify="left", box=None)
    table.add_column("variant")
    for head in ("parameters", "basis", "keys", "projections", "MB fp32", "MB fp16", "kB a mix"):
        table.add_column(head, justify="right")
    for size in found:
        counts = (size.parameters, size.basis, size.keys, size.projections)
        megabytes = (size.float32_bytes / 1e6, size.float16_bytes / 1e6, size.mix_bytes / 1e3)
        table.add_row(size.name, *(f"{n:,}" for n in counts), *(f"{n:,.1f}" for n in megabytes))
    console = Console()
    console.width = max(console.width, 112)  # numbers to the unit are of no use when they are cut
    console.print(table)
    return console
