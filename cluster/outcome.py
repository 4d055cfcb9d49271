"""How a job ended: the sentence and the exit code for it."""

import signal
from typing import Any, Final

FAILED: Final = 1
STOPPED: Final = 128 + signal.SIGTERM


def headless(ended: Any) -> bool:
    """Whether a job ended with its head or its supervisor: the stage itself gave no exit code."""
    return ended is None or (str(ended.status) == "FAILED" and ended.driver_exit_code is None)


def verdict(name: str, ended: Any, tries: int) -> tuple[str, int]:
    """What to say of a job after `tries` of it, and the exit code; ("", 0) where it succeeded.

    `ended` is Ray's JobDetails, None where the head knows no such job.
    """
    if ended is None:
        return f"the head forgot job {name} {tries} times; look at why it restarts, then submit again", FAILED
    if str(ended.status) == "STOPPED" or exit_code(ended) == STOPPED:
        return f"job {name} was stopped; the same command goes on where it was", STOPPED
    if str(ended.status) != "SUCCEEDED":
        said = " ".join((ended.message or "").split())[:500]
        return f"job {name} ended as {ended.status}: {said}", exit_code(ended)
    return "", 0


def exit_code(ended: Any) -> int:
    """The job's own as a shell tells it, 128 + N for signal N; 1 where it failed without one."""
    code = ended.driver_exit_code or FAILED
    return int(code if code > 0 else 128 - code)
