"""Run stages as Ray jobs: `python -m cluster.submit STAGE|all --address http://HEAD:8265` (docs/jobs.md).

A job runs the very command of dvc.yaml (`python -m pipelines.STAGE`). Only code is uploaded. With `storage.uri` in
params.yaml, inputs and outs travel through that store; without it, they stay in `--root`, a folder that every node sees
under the same path.

Exit code: 0 fine, the job's own where it failed with one, 1 failed, 2 bad usage, 130 interrupted, 143 stopped.
"""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, NoReturn

import typer

from cluster.client import stop_command
from cluster.connection import Head
from cluster.errand import BESIDE, LOOKS_OUTSIDE, Errand, deps, outs, shown_password, stage_names
from cluster.faults import HeadError
from cluster.job import Ticket, found_result, result_key, ticket_key
from cluster.kept import stands
from cluster.outcome import FAILED, headless, verdict
from cluster.parameters import params_of
from cluster.parcel import Parcel, deliver, pack
from lorweb.storage import StorageError
from pipelines._code import ROOT
from pipelines._stage import WORK
from pipelines._upload import code_copy

USAGE, INTERRUPTED = 2, 128 + signal.SIGINT
TRIES: Final = 3  # of a job that its head, not its stage, ended


@dataclass(frozen=True)
class Wishes:
    """How to go about it."""

    again: bool
    detach: bool
    cancel: bool
    forward: tuple[str, ...]


def main(  # noqa: PLR0913, PLR0917  one parameter per option
    stage: Annotated[str, typer.Argument(help="a stage of dvc.yaml, or all")],
    address: Annotated[str, typer.Option(envvar="LORWEB_CLUSTER", help="the head's job server, http://HOST:8265")],
    root: Annotated[Path, typer.Option(help="project folder; without a store, one that every node sees")] = Path(),
    profile: Annotated[str, typer.Option(help="parameters of this profile, for a --root of its own")] = "",
    again: Annotated[bool, typer.Option("--again", help="run although the same job succeeded before")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="leave when the job is submitted")] = False,
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", envvar="LORWEB_CANCEL", help="Ctrl-C stops the job")
    ] = False,
    forward: Annotated[
        list[str] | None, typer.Option(envvar="LORWEB_FORWARD", help="one more variable for jobs; dashboards show it")
    ] = None,
    patience: Annotated[float, typer.Option(help="seconds to wait for a head that went away")] = 180.0,
    await_head: Annotated[bool, typer.Option("--await-head", help="wait for a head that is not there yet")] = False,
) -> None:
    """Submit, follow the log, fetch what was made, and leave with the job's outcome."""
    signal.signal(signal.SIGTERM, _interrupt)
    names = stage_names() if stage == "all" else [stage]
    if not set(names) <= set(stage_names()):
        _fail(f"no stage '{stage}'; use one of {', '.join(stage_names())}, or all", USAGE)
    if detach and len(names) > 1:
        _fail("--detach is for one stage: the next one reads what it makes", USAGE)
    wishes = Wishes(again, detach, cancel_on_interrupt, tuple(forward or ()))
    if refused := shown_password(wishes.forward):
        _fail(refused, USAGE)
    try:
        params = params_of(root.resolve(), profile)
        errands = [Errand(name, root.resolve(), params) for name in names]
        if refused := next(filter(None, (errand.untracked() for errand in errands)), ""):
            _fail(refused, USAGE)
    except (ValueError, FileNotFoundError) as error:
        _fail(str(error), USAGE)
    head = Head(address.rstrip("/"), patience, await_head)
    try:
        head.ask(lambda client: client.get_version())
        for errand in errands:
            run(head, errand, wishes)
    except (HeadError, StorageError, ValueError, OSError) as error:
        _fail(str(error))
    except KeyboardInterrupt as error:
        _fail("interrupted while no job was followed; the same command goes on", _code(error))


def run(head: Head, errand: Errand, wishes: Wishes) -> None:
    """One stage, from its inputs to its outs. Raises HeadError, StorageError; typer.Exit with the job's outcome."""
    ticket = _ticket(errand)
    name = errand.name(ticket.inputs.to_json() if ticket else errand.shared_inputs())
    found = head.job(name)
    running = found is not None and not found.status.is_terminal()
    if not running and not wishes.again and _stands(errand, name, found):
        print(f"{errand.stage}: done before as {name}; --again runs it once more", flush=True)
        return _fetch(errand, name)
    for attempt in range(1, TRIES + 1):
        if not running:
            _submit(head, errand, name, wishes, ticket)
        print(f"{errand.stage}: job {name}{' goes on' if running else ''}", flush=True)
        if wishes.detach:
            print(f"{errand.stage}: it runs on its own; the same command without --detach follows it", flush=True)
            return None
        ended = _follow(head, name, wishes)
        if not headless(ended):
            break
        running = False
        if attempt < TRIES:
            print(f"{errand.stage}: the head lost job {name}; submitting it again", flush=True)
    sentence, code = verdict(name, ended, TRIES)
    if code:
        _fail(f"{errand.stage}: {sentence}", code)
    return _fetch(errand, name)


def _ticket(errand: Errand) -> Ticket | None:
    """Inputs put into the store; None where there is none."""
    if errand.store is None:
        return None
    made = outs(errand.stage)
    lock = errand.root / "dvc.lock"
    beside = pack(errand.store, errand.root, BESIDE)
    others = {path: what for path, what in beside.inventory.files.items() if path not in made}
    return Ticket(
        pack(errand.store, errand.root, deps(errand.stage)),
        Parcel(type(beside.inventory)(others), beside.folders),
        errand.params,
        lock.read_text(encoding="utf-8") if lock.is_file() else "",
    )


def _stands(errand: Errand, name: str, found: Any) -> bool:
    """Whether what a job of that name made still counts."""
    if errand.stage in LOOKS_OUTSIDE:
        return False
    if errand.store is None:
        return found is not None and str(found.status) == "SUCCEEDED" and stands(errand.root, errand.stage, name)
    return found_result(errand.store, name) is not None


def _submit(head: Head, errand: Errand, name: str, wishes: Wishes, ticket: Ticket | None) -> None:
    if errand.store is not None and ticket is not None:
        errand.store.remove(result_key(name))  # what is found there later is this job's
        errand.store.write(ticket_key(name), ticket.to_json().encode())
    head.forget(name)
    with code_copy(ROOT) as folder:
        environment = {"working_dir": str(folder), "env_vars": errand.environment(name, wishes.forward)}
        head.start(name, errand.entrypoint(), environment)


def _follow(head: Head, name: str, wishes: Wishes) -> Any:
    try:
        return head.follow(name)
    except KeyboardInterrupt as error:
        code = _code(error)
        if not wishes.cancel:
            end = stop_command(name, head.address)
            _fail(f"job {name} goes on; the same command follows it again, `{end}` ends it", code)
        print(f"submit: stopping job {name}", file=sys.stderr, flush=True)
        head.stop(name)
        head.follow(name)
        _fail(f"job {name} was stopped; the same command goes on where it was", code)


def _fetch(errand: Errand, name: str) -> None:
    """Put what the job made where DVC looks for it."""
    if errand.store is None:
        return
    result = found_result(errand.store, name)
    if result is None:
        raise StorageError(f"the store {errand.store.uri} lacks what job {name} made; submit it again")
    fetched = deliver(errand.store, result, errand.root, outs(errand.stage), errand.root / WORK / "fetch" / name)
    print(f"{errand.stage}: {fetched} files fetched to {errand.root}", flush=True)


def _code(error: KeyboardInterrupt) -> int:
    return int(error.args[0]) if error.args else INTERRUPTED


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(128 + number)


def _fail(sentence: str, code: int = FAILED) -> NoReturn:
    print(f"submit: {sentence}", file=sys.stderr, flush=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
