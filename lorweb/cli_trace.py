"""`lorweb trace`: where something came from. Thin, like `lorweb.cli`, which adds it."""

from pathlib import Path
from typing import Annotated

import typer

from lorweb.cli_options import MODEL_HELP, Json, Name, complete_model
from lorweb.cli_output import PartlyDone, busy, print_json


def trace(  # noqa: PLR0913, PLR0917  one parameter per option
    what: Annotated[
        str,
        typer.Argument(
            metavar="X",
            help="PNG that lorweb wrote, model folder, version, alias, URI, mix, baked LoRA, or the id of a record.",
            autocompletion=complete_model,
        ),
    ],
    data: Annotated[Path, typer.Option(help="Data of the pipeline.")] = Path("data"),
    model: Annotated[
        str | None,
        typer.Option(help=f"Where its model is, if nobody says. {MODEL_HELP}", autocompletion=complete_model),
    ] = None,
    name: Name = "lorweb",
    everything: Annotated[bool, typer.Option("--all", help="List every source image.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read all data and compare them with their hashes.")] = False,
    as_json: Json = False,
) -> None:
    """Say where a picture, a model or a record came from, back to the source images and their licences.

    Links are followed by content hashes. Where one does not hold, both hashes are told, and the exit code is 1.

    Example: lorweb trace b2.png

    Example: lorweb trace models/candidate --all

    Example: lorweb trace champion --json
    """
    from lorweb.commands import model_file
    from lorweb.trace import Places
    from lorweb.trace import trace as walk

    given = None if model is None else str(model_file(model).parent.resolve())
    with busy("trace"):
        told = walk(what, Places(Path(), data, name, given), verify)
    if not as_json:
        from rich.console import Console

        from lorweb.trace.show import tree_of

        Console(soft_wrap=True, highlight=False, emoji=False).print(tree_of(told, everything))
    if told["missing"]:
        raise PartlyDone(f"the trace of {what} does not reach its end: {told['missing'][0]}", told)
    if as_json:
        print_json(told)
