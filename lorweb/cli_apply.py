"""Commands that draw: `lorweb apply` and `lorweb reproduce`. Thin, like `lorweb.cli`, which adds them."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from lorweb.cli_options import (
    A2,
    MODEL_HELP,
    A,
    Guidance,
    Json,
    Model,
    Offload,
    Prompt,
    Seed,
    Steps,
    Strength,
    complete_model,
)
from lorweb.cli_output import PartlyDone, busy, print_json, say, telling
from lorweb.commands import CHAMPION
from lorweb.terminal import plain

NAMED: Final = 5  # files in a note


def apply(  # noqa: PLR0913, PLR0917  one parameter per option
    a: A,
    a2: A2,
    b: Annotated[Path, typer.Argument(help="Query image, or a folder of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write; a folder if B is one.")],
    prompt: Prompt = "",
    model: Model = CHAMPION,
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    strength: Strength = 1.0,
    mix: Annotated[
        list[str] | None, typer.Option(help="Coefficient file, or FILE:WEIGHT; several are averaged or summed.")
    ] = None,
    offload: Annotated[
        Offload, typer.Option(help="Keep the base in main memory; bring in one model, or one layer (sequential).")
    ] = Offload.none,
    fold: Annotated[
        bool, typer.Option("--fold", help="Add each analogy to the weights for its steps: faster, twice their memory.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Draw b' so that a : a' :: b : b'. The PNG says how it was made: see `lorweb reproduce` and `lorweb trace`.

    Example: lorweb apply a.png a2.png b.png -o b2.png --seed 7

    Example: lorweb apply a.png a2.png photos/ -o edited/ --strength 1.2
    """
    from rich.console import Console
    from rich.progress import track

    from lorweb import applying
    from lorweb.outputs import plan_outputs

    plan = plan_outputs(b, out, (a, a2))
    settings = applying.ApplySettings(prompt, steps, guidance, seed, strength, mix or [])
    with busy("load the model"):
        drawer = applying.load_drawer(model, offload.value, fold)
    results = applying.apply(drawer, (a, a2), plan, settings)
    console = Console(stderr=True, emoji=False)  # a name may hold `:word:`
    told: dict[str, list[dict[str, Any]]] = {"written": [], "left_out": _other_files(b)}
    shown = track(results, "apply", len(plan), console=console, disable=not console.is_terminal or len(plan) == 1)
    with telling(told):
        for done in shown:
            if done.fault is not None:
                told["left_out"].append({"source": str(done.source), "reason": done.fault})
                console.print(f"left out: {plain(done.fault)}", markup=False, highlight=False, soft_wrap=True)
                continue
            told["written"].append({"source": str(done.source), "output": str(done.output), "facts": done.facts})
            if not as_json:
                say(done.output)
    if faults := len(plan) - (rest := len(told["written"])):
        raise PartlyDone(f"{faults} of {len(plan)} images could not be read; the other {rest} are in {out}", told)
    if as_json:
        print_json(told)


def _other_files(queries: Path) -> list[dict[str, Any]]:
    """What a folder holds besides images, said in one note and told as left out; that is no fault."""
    from lorweb.commands import SUFFIXES
    from lorweb.outputs import other_files

    others = other_files(queries)
    if others:
        names = ", ".join(path.name for path in others[:NAMED]) + (", ..." if len(others) > NAMED else "")
        kind = "1 file is no image" if len(others) == 1 else f"{len(others)} files are no images"
        say(f"lorweb: note: {kind} of a kind that is read, and left out: {names}", err=True)
    reason = f"its name ends in none of {', '.join(SUFFIXES)}"
    return [{"source": str(path), "reason": reason} for path in others]


def reproduce(  # noqa: PLR0913, PLR0917  one parameter per option
    made: Annotated[Path, typer.Argument(help="PNG that lorweb wrote: `apply`, the server or the demo.")],
    a: A,
    a2: A2,
    b: Annotated[Path, typer.Argument(help="The query image it was made of.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="PNG to write; by default none is written.")] = None,
    mix: Annotated[list[str] | None, typer.Option(help="Where its coefficient files are now, if elsewhere.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"Where its model is now, if elsewhere. {MODEL_HELP}", autocompletion=complete_model),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a picture again from what it says about itself, and say whether it is the same; exit code 1 if it is not.

    Images, basis, base, encoder or coefficients that are not those it was made with are refused with both hashes.

    Example: lorweb reproduce b2.png a.png a2.png b.png -o again.png
    """
    from lorweb.basis.files import write_bytes
    from lorweb.outputs import check_picture_file
    from lorweb.provenance import png_with_facts
    from lorweb.reproduce import Given, reproduce

    if out is not None:
        check_picture_file(out, (made, a, a2, b))
    with busy("reproduce"):
        again = reproduce(made, Given({"a": a, "a2": a2, "b": b}, mix, model))
    png = png_with_facts(again.image, again.facts)
    if out is not None:
        write_bytes(out, png)
    told: dict[str, Any] = {
        "made": str(made),
        "output": None if out is None else str(out),
        "same_pixels": again.same,
        "same_bytes": again.same and png == made.read_bytes(),
        "largest_difference": again.most,
        "share_that_differs": again.share,
        "differs_in": {**again.claims.differs, **again.claims.false},
        "does_not_hold": sorted(again.claims.false),
        "not_checked": again.claims.unchecked,
    }
    why = "; ".join(f"{name} was {then}, is {now}" for name, (then, now) in told["differs_in"].items())
    if not again.same:
        raise PartlyDone(
            f"{made} comes out differently: by at most {again.most} of 255, in {again.share:.2%} of its values. "
            + (why or "everything it says about itself is the same here, so its pixels were changed after it was made"),
            told,
        )
    if again.claims.false:
        raise PartlyDone(f"{made} has the same pixels, but is not made as it says: {why}", told)
    if as_json:
        print_json(told)
        return
    same = "bytes" if told["same_bytes"] else "pixels"
    say(f"{made}: the same {same}{f' ({why})' if why else ''}")
    if again.claims.unchecked:
        say(f"not checked, and so not confirmed: {', '.join(again.claims.unchecked)}", err=True)
