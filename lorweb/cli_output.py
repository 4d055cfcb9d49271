"""How a command speaks and ends.

Text for people, or with `--json` exactly one JSON document on stdout; progress and sentences go to stderr. What goes
wrong is one sentence on stderr, and with `--json` also `{"error": sentence}` on stdout, beside whatever was done.
Exit codes: 0 done, 1 it could not be done, 2 wrong usage, 130 stopped by Ctrl-C.
"""

import contextlib
import difflib
import errno
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import typer

from lorweb.terminal import escaped, first_line, notes_to, one_line, plain

FAILED, USAGE, STOPPED = 1, 2, 130
_UsageError: Final = typer.BadParameter.__mro__[1]  # typer brings its own click in some versions, and no name for it
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
_CHOICES: Final = re.compile(r"'(?P<given>[^']*)' is not one of (?P<known>'.*')\.?$")


class PartlyDone(ValueError):
    """A command did some of its work; `result` is what it would have said without the fault."""

    def __init__(self, sentence: str, result: Mapping[str, Any]) -> None:
        super().__init__(sentence)
        self.result = result


class Stopped(Exception):
    """Ctrl-C, after a command did some of its work; `result` as of `PartlyDone`."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        super().__init__("stopped by Ctrl-C")
        self.result = result


@contextlib.contextmanager
def telling(done: Mapping[str, Any]) -> Iterator[None]:
    """What a command has done so far goes with whatever ends it before its time, for `--json`.

    Args:
        done: what it would say at its end; read when the end comes.
    """
    try:
        yield
    except (PartlyDone, BrokenPipeError):
        raise
    except KeyboardInterrupt as stop:
        raise Stopped(done) from stop
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None or not any(done.values()):
            raise
        raise PartlyDone(sentence, done) from error


def say(text: object, err: bool = False) -> None:
    """One line for people. Names of files and models, and what others wrote, may hold control codes and line breaks."""
    typer.echo(one_line(text), err=err)


def print_json(result: Mapping[str, Any] | Sequence[Any]) -> None:
    """The one document of a `--json` command, keys in the order given."""
    typer.echo(escaped(json.dumps(result, indent=1, ensure_ascii=False, default=str)))


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """A spinner on a terminal's stderr while something takes its time, and nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(what) if console.is_terminal else contextlib.nullcontext():
        yield


def finish(run: Callable[[], object], arguments: Sequence[str]) -> int:
    """Call `run`, say in one sentence what went wrong, and give the exit code.

    `arguments`: the words of the command line; `--json` among them asks for the error as JSON too.
    """
    try:
        with notes_to(lambda text: say(f"lorweb: note: {text}", err=True)):
            code = run()
        sys.stdout.flush()  # here: at the interpreter's own exit nobody could be told
        if code == STOPPED:
            return _stopped({}, arguments)
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort, Stopped) as stop:
        return _stopped(getattr(stop, "result", {}), arguments)
    except BrokenPipeError:  # `| head` has read enough
        _let_go()
        return FAILED
    except Exception as error:
        if isinstance(error, _UsageError):
            return _misused(error, arguments)
        sentence = sentence_of(error)
        if sentence is None:
            raise
        typer.echo(f"lorweb: {plain(sentence)}", err=True)
        _tell({**(error.result if isinstance(error, PartlyDone) else {}), "error": sentence}, arguments)
        return FAILED


def _misused(error: Any, arguments: Sequence[str]) -> int:
    error.message = plain(error.message.replace("Value error, ", ""))  # what pydantic puts before typer's own sentence
    hint = _nearest(error.message)
    if hint:
        error.message = f"{error.message} {hint}"
    error.show()
    _tell({"error": error.format_message()}, arguments)
    return USAGE


def sentence_of(error: Exception) -> str | None:
    """What a person can do about it; None for a bug, which keeps its traceback."""
    if isinstance(error, OSError) and error.errno is not None:
        return _system_sentence(error)
    if isinstance(error, ValueError | OSError):
        return str(error)
    if _out_of_memory(error):
        what = first_line(error).rpartition("] err == 0. ")[2]  # without the line of torch's source
        return f"too little memory ({what}); stop other programs, try --offload model, or give smaller images"
    if type(error).__module__.split(".")[0] == "mlflow":
        return f"the model registry refused ({first_line(error)}); see MLFLOW_TRACKING_URI and `lorweb doctor`"
    return None


def _out_of_memory(error: Exception) -> bool:
    """Python's own, that of a GPU, and that of the CPU, which torch raises as a plain RuntimeError."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or (isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in str(error))


def _system_sentence(error: OSError) -> str:
    reason = error.strerror or str(error)
    place = _place(error.filename)
    if error.errno in _FULL:
        return (
            f"the disk is full{place and f', {place} was not written'} ({reason}); free some space, or write elsewhere"
        )
    if error.errno in _CLOSED:
        return f"{place or 'a file'} cannot be opened or written ({reason}); change its permissions, or choose another"
    if error.errno == errno.EEXIST:
        return f"{place or 'the output folder'} is a file, not a folder; choose another place"
    if error.errno == errno.ENOTDIR:
        return f"{place or 'the path'} lies below a file, not in a folder; choose another place"
    if error.errno == errno.ENOENT:
        return f"there is nothing at {place}; check the path" if place else reason
    return f"{reason}: {place}" if place else reason


def _place(name: object) -> str:
    """The path that an error speaks of; of a temporary file beside its target, the folder."""
    if not isinstance(name, str | os.PathLike):
        return ""
    path = Path(name)
    return str(path.parent) if path.name.startswith(".") and path.name.count(".") > 1 else str(path)


def _nearest(message: str) -> str:
    """Did-you-mean for a value that is none of the choices; typer has it for commands and options."""
    found = _CHOICES.search(message)
    near = difflib.get_close_matches(found["given"], re.findall(r"'([^']*)'", found["known"]), 1, 0.3) if found else []
    return f"Did you mean '{near[0]}'?" if near else ""


def _stopped(result: Mapping[str, Any], arguments: Sequence[str]) -> int:
    sentence = "stopped by Ctrl-C; what was finished stays, and no partial file is left"
    typer.echo(f"lorweb: {plain(sentence)}", err=True)
    _tell({**result, "error": sentence}, arguments)
    return STOPPED


def _tell(result: Mapping[str, Any], arguments: Sequence[str]) -> None:
    if "--json" not in arguments:
        return
    try:
        print_json(result)
        sys.stdout.flush()
    except OSError:
        _let_go()


def _let_go() -> None:
    """Nobody reads stdout any more, or it cannot be written: keep the interpreter from trying once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
