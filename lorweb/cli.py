# Lines: one function per command, one parameter per option.
"""The `lorweb` command: thin. Heavy libraries load inside the commands, so that `lorweb --help` answers at once."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import lorweb
from lorweb import cli_apply, cli_inspect, cli_mix, cli_plan, cli_registry, cli_trace
from lorweb.cli_options import CheckpointFormat, Dtype, Json, Model, Profile
from lorweb.cli_output import PartlyDone, busy, finish, print_json, say
from lorweb.commands import CHAMPION
from lorweb.terminal import plain

if TYPE_CHECKING:
    from lorweb.doctor import Finding

app = typer.Typer(name="lorweb", no_args_is_help=True, pretty_exceptions_enable=False)  # its help is that of `common`
app.add_typer(cli_registry.app, name="registry")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lorweb {lorweb.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Visual analogies a : a' :: b : b' with a learned basis of LoRAs.

    Exit codes: 0 done, 1 it could not be done (one sentence on stderr), 2 wrong usage, 130 stopped by Ctrl-C.
    """


app.command()(cli_apply.apply)
app.command()(cli_apply.reproduce)


@app.command()
def convert(  # noqa: PLR0913, PLR0917  one parameter per option
    source: Annotated[Path, typer.Argument(help="Checkpoint: our file or folder, or the official weights.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, without another model in it.")],
    to: Annotated[CheckpointFormat, typer.Option(help="The format to write.")],
    config: Annotated[
        Path | None, typer.Option(help="config.yaml of the official format; else the one beside it.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base it was trained on, where config.yaml does not say: a folder, a hub id.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="The image encoder of its queries, where config.yaml does not say: clip:FOLDER.")
    ] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Of official weights; else as they came, or float16.")] = None,
    as_json: Json = False,
) -> None:
    """Convert a checkpoint between our format and the official one, tensor for tensor.

    Example: lorweb convert lorweb_model/ mine/ --to lorweb
    """
    from lorweb.convert import Conversion
    from lorweb.convert import convert as run

    how = Conversion(to.value, base, encoder, config, dtype and dtype.value)
    with busy("convert"):
        done = run(source, out, how)
    if as_json:
        print_json({"written": [str(path) for path in done.paths], "notes": done.notes})
        return
    for path in done.paths:
        say(path)
    for note in done.notes:
        say(note, err=True)


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
        raise ValueError("the web demo needs gradio; run pip install -e '.[demo]' in the project's folder")
    from lorweb import commands
    from lorweb.serving.demo import serve
    from lorweb.serving.ports import check_address

    check_address(host, port)
    say(f"loading {model} ...", err=True)
    serve(commands.load(model), host, port, data)


@app.command()
def doctor(profile: Profile = None, as_json: Json = False) -> None:
    """Say what this machine has and lacks for the chosen profile; exit code 1 if it cannot run.

    Example: lorweb doctor --profile paper
    """
    from lorweb.doctor import examine

    findings = examine(Path(), profile)
    missing = [finding.name for finding in findings if finding.state == "missing"]
    found = {"profile": profile, "findings": [asdict(finding) for finding in findings], "missing": missing}
    if not as_json:
        _show_findings(findings)
    if missing:
        sentence = f"this machine cannot run the profile yet: {', '.join(missing)}; see above what to do"
        raise PartlyDone(sentence, found)
    if as_json:
        print_json(found)


def _show_findings(findings: "list[Finding]") -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, emoji=False)  # a name may hold `:word:`
    for finding in findings:
        colour = {"ok": "green", "note": "yellow", "missing": "red"}[finding.state]
        console.print(f"[{colour}]{finding.state:8}[/]", end="")
        console.print(plain(f"{finding.name}: {finding.text}"), markup=False, highlight=False)


app.command()(cli_mix.mix)
app.command()(cli_mix.bake)
app.command()(cli_inspect.calibrate)
app.command()(cli_inspect.health)
app.command()(cli_plan.plan)
app.command()(cli_trace.trace)


def main() -> None:
    """Entry point; see `lorweb.cli_output.finish` for how a command ends."""
    command = typer.main.get_command(app)
    code = finish(lambda: command.main(sys.argv[1:], prog_name="lorweb", standalone_mode=False), sys.argv[1:])
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
