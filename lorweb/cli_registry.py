"""`lorweb registry`: the MLflow registry by alias. Thin, like `lorweb.cli`, which adds it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorweb.cli_options import By, Json, MaybeReason, Name, Reason
from lorweb.cli_output import PartlyDone, print_json, say
from lorweb.cli_versions import history_rows, list_rows, print_table, show_rows

if TYPE_CHECKING:
    from lorweb.serving.registry import Registry, Version

app = typer.Typer(help="The MLflow registry by alias: candidate, champion, previous.", no_args_is_help=True)


@app.command("list")
def list_versions(name: Name = "lorweb", as_json: Json = False) -> None:
    """Versions with their aliases. Example: lorweb registry list"""
    versions = [_facts(version) for version in _registry(name).versions()]
    if not versions:
        raise ValueError(f"no version of {name} is registered yet; run `make run` or `dvc repro promote`")
    if as_json:
        print_json(versions)
    else:
        print_table(("version", "aliases", "made", "decision", "content"), list(list_rows(versions)))


@app.command()
def show(
    which: Annotated[str, typer.Argument(help="A version's number, or an alias.")] = "champion",
    name: Name = "lorweb",
    as_json: Json = False,
) -> None:
    """One version: tags, the last decision with its reasons, and whether its files are whole.

    Example: lorweb registry show champion
    """
    registry = _registry(name)
    version = _version(registry, which)
    fault = _fault(registry, version)
    decision = registry.decisions.read(version.tags.get("decision_run", ""), "decision.json")
    facts = {**_facts(version), "tags": version.tags, "files": fault or "whole", "decision": decision}
    if as_json and fault:
        raise PartlyDone(fault, facts)
    if as_json:
        print_json(facts)
    else:
        print_table(("what", "value"), list(show_rows(facts)))
    if fault:
        raise ValueError(fault)


@app.command("promote")
def promote_version(
    version: Annotated[int, typer.Argument(min=1, help="Its number, see `lorweb registry list`.")],
    reason: Reason,
    name: Name = "lorweb",
    by: By = None,
    as_json: Json = False,
) -> None:
    """Make a version the champion by hand, past the gate; its files are checked first.

    Example: lorweb registry promote 3 --reason "looks better on faces"
    """
    registry = _registry(name)
    wanted = registry.by_number(version)
    moved = registry.promote(wanted, _why(reason, by))
    is_champion = "is the champion" if moved else "was the champion already; nothing was recorded"
    _tell_move(registry, f"{name} version {version} {is_champion}", moved, as_json)


@app.command()
def rollback(name: Name = "lorweb", reason: MaybeReason = None, by: By = None, as_json: Json = False) -> None:
    """Swap champion and previous. Example: lorweb registry rollback --reason "banding on skies" """
    registry = _registry(name)
    version, moved = registry.rollback(_why(reason or "", by))
    finished = "" if moved else ": a rollback that a process had begun and left is finished"
    _tell_move(registry, f"{name} version {version.number} is the champion again{finished}", moved, as_json)


@app.command()
def history(name: Name = "lorweb", as_json: Json = False) -> None:
    """Every move of the champion and every refusal: when, from, to, who, why. Example: lorweb registry history"""
    events = _registry(name).events()
    if not events:
        raise ValueError(f"nothing was decided about {name} yet; run `make run` or `dvc repro promote`")
    if as_json:
        print_json(events)
    else:
        print_table(("at", "what", "from", "to", "by", "why"), list(history_rows(events)))


def _registry(name: str) -> "Registry":
    from lorweb.serving.registry import Registry

    return Registry(name)


def _version(registry: "Registry", which: str) -> "Version":
    from lorweb.config_errors import unknown_name
    from lorweb.serving.versions import ALIASES

    if which.isdecimal():
        return registry.by_number(int(which))
    if which not in ALIASES:
        raise ValueError(unknown_name("alias", which, ALIASES))
    found = registry.by_alias(which)
    if found is None:
        raise ValueError(f"no version of {registry.name} is {which}; see `lorweb registry list`")
    return found


def _why(reason: str, by: str | None) -> Any:
    from lorweb.serving.history import Why
    from lorweb.serving.processes import current_user

    return Why(by or current_user(), reason)


def _fault(registry: "Registry", version: "Version") -> str:
    """What is wrong with the files of a version; "" if nothing is."""
    try:
        registry.folder(version)
    except ValueError as error:
        return str(error)
    return ""


def _tell_move(registry: "Registry", sentence: str, moved: bool, as_json: bool) -> None:
    if as_json:
        state = registry.aliases.read()
        told = {"model": registry.name, "champion": state.champion, "previous": state.previous}
        print_json({**told, "moved": moved})
    else:
        say(sentence)


def _facts(version: "Version") -> dict[str, Any]:
    return {
        "version": version.number,
        "aliases": list(version.aliases),
        "content": version.content,
        "run": version.run_id,
        "made": _when(version.created),
        "state": _state(version),
    }


def _state(version: "Version") -> str:
    return "rolled back" if "rolled_back" in version.tags else version.tags.get("decision", "")


def _when(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
