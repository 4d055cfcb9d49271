# Lines: one function per command, one parameter per option.
"""The `lorweb` command: thin. Heavy libraries load inside the commands, so that `lorweb --help` answers at once."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lorweb import cli_inspect, cli_mix, cli_plan, cli_registry
from lorweb.commands import CHAMPION

app = typer.Typer(
    name="lorweb",
    help="Visual analogies a : a' :: b : b' with a learned basis of LoRAs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_registry.app, name="registry")

Model = Annotated[str, typer.Option(help="A model folder, its safetensors file, or an MLflow URI.")]
A = Annotated[Path, typer.Argument(help="Exemplar before the edit.")]
A2 = Annotated[Path, typer.Argument(help="Exemplar after the edit.")]


@app.command()
def apply(  # noqa: PLR0913, PLR0917  one parameter per option
    a: A,
    a2: A2,
    b: Annotated[Path, typer.Argument(help="Query image, or a folder of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write; a folder if B is one.")],
    prompt: Annotated[str, typer.Option(help="Instruction besides the exemplar.")] = "",
    model: Model = CHAMPION,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; the model's own by default.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0.0, help="Guidance scale; the model's own by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the noise.")] = 0,
    strength: Annotated[float, typer.Option(help="1 is the analogy, 0 the base model, below 0 undoes the edit.")] = 1.0,
    mix: Annotated[
        list[str] | None, typer.Option(help="Coefficient file, or FILE:WEIGHT; several are averaged or summed.")
    ] = None,
    offload: Annotated[
        str, typer.Option(help="Keep the base in main memory and bring in one 'model' or one layer ('sequential').")
    ] = "none",
    fold: Annotated[
        bool, typer.Option("--fold", help="Add each analogy to the weights for its steps: faster, twice their memory.")
    ] = False,
) -> None:
    """Draw b' so that a : a' :: b : b'.

    Example: lorweb apply a.png a2.png photos/ -o edited/ --strength 1.2
    """
    from rich.console import Console
    from rich.progress import track

    from lorweb import commands

    plan = commands.plan_outputs(b, out)
    settings = commands.ApplySettings(prompt, steps, guidance, seed, strength, mix or [])
    pipe, basis = commands.load(model, offload)
    if fold:
        pipe.fold, pipe.batch_size = True, 1  # weights hold one analogy
    results = commands.apply(pipe, basis, (a, a2), plan, settings)
    console = Console(stderr=True)
    faults = 0
    shown = track(results, "apply", len(plan), console=console, disable=not console.is_terminal or len(plan) == 1)
    for done in shown:
        if done.fault is not None:
            faults += 1
            console.print(f"left out: {done.fault}", markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(str(done.output))
    if faults:
        raise ValueError(
            f"{faults} of {len(plan)} images could not be read; the other {len(plan) - faults} are in {out}"
        )


@app.command()
def convert(  # noqa: PLR0913, PLR0917  one parameter per option
    source: Annotated[Path, typer.Argument(help="Checkpoint: our file or folder, or the official weights.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    to: Annotated[str, typer.Option(help="official or lorweb.")],
    config: Annotated[
        Path | None, typer.Option(help="config.yaml of the official format; else the one beside it.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base it was trained on, where config.yaml does not say: a folder, a hub id.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="The image encoder of its queries, where config.yaml does not say: clip:FOLDER.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float16, bfloat16 or float32, of official weights; else as they came, or float16."),
    ] = None,
) -> None:
    """Convert a checkpoint between our format and the official one, tensor for tensor.

    Example: lorweb convert lorweb_model/ mine/ --to lorweb
    """
    from lorweb.convert import Conversion
    from lorweb.convert import convert as run

    done = run(source, out, Conversion(to, base, encoder, config, dtype))  # type: ignore[arg-type]  # refused there
    for path in done.paths:
        typer.echo(str(path))
    for note in done.notes:
        typer.echo(note, err=True)


@app.command()
def demo(
    model: Model = CHAMPION,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 7860,
    data: Annotated[Path, typer.Option(help="Pipeline data whose test analogies are offered as examples.")] = Path(
        "data"
    ),
) -> None:
    """Serve a web page: drop three images, see b' and the LoRAs that made it.

    Example: lorweb demo --port 8000
    """
    import importlib.util

    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the web demo needs gradio; run pip install 'lorweb[demo]'")
    from lorweb import commands
    from lorweb.serving.demo import serve

    serve(commands.load(model), host, port, data)


@app.command()
def doctor(
    profile: Annotated[
        str | None, typer.Option(help="A name below profiles/; by default params.yaml as it is.")
    ] = None,
) -> None:
    """Say what this machine has and lacks for the chosen profile; exit code 1 if it cannot run.

    Example: lorweb doctor --profile paper
    """
    from rich.console import Console

    from lorweb.doctor import examine

    findings = examine(Path(), profile)
    console = Console(soft_wrap=True)
    for finding in findings:
        colour = {"ok": "green", "note": "yellow", "missing": "red"}[finding.state]
        console.print(f"[{colour}]{finding.state:8}[/]", end="")
        console.print(f"{finding.name}: {finding.text}", markup=False, highlight=False)
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if missing:
        raise ValueError(f"this machine cannot run the profile yet: {', '.join(missing)}; see above what to do")


app.command()(cli_mix.bake)
app.command()(cli_mix.mix)
app.command()(cli_inspect.calibrate)
app.command()(cli_inspect.health)
app.command()(cli_plan.plan)


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 it could not be done (one sentence on stderr), 2 wrong usage."""
    try:
        app()
    except (ValueError, OSError) as error:
        typer.echo(f"lorweb: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
