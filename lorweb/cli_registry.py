"""`lorweb registry`: the MLflow registry by alias. Thin, like `lorweb.cli`, which adds it."""

from typing import Annotated, Any

import typer

app = typer.Typer(help="The MLflow registry by alias: candidate, champion, previous.", no_args_is_help=True)
Name = Annotated[str, typer.Option(help="Name of the registered model.")]


@app.command("list")
def list_versions(name: Name = "lorweb") -> None:
    """Versions with their aliases. Example: lorweb registry list"""
    versions = _registry(name).versions()
    if not versions:
        raise ValueError(f"no version of {name} is registered yet; run `make run` or `dvc repro promote`")
    for version in versions:
        extra = "rolled back" if "rolled_back" in version.tags else ""
        words = (str(version.number), version.content[:12], ", ".join(version.aliases), extra)
        typer.echo("  ".join(word for word in words if word))


@app.command("promote")
def promote_version(version: Annotated[int, typer.Argument(min=1)], name: Name = "lorweb") -> None:
    """Make a version the champion by hand, past the gate. Example: lorweb registry promote 3"""
    registry = _registry(name)
    registry.promote(registry.by_number(version))
    typer.echo(f"{name} version {version} is the champion")


@app.command()
def rollback(name: Name = "lorweb") -> None:
    """Swap champion and previous. Example: lorweb registry rollback"""
    typer.echo(f"{name} version {_registry(name).rollback().number} is the champion again")


def _registry(name: str) -> Any:
    from lorweb.serving.registry import Registry

    return Registry(name)
