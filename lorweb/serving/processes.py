"""Who this process is, where it runs, and whether another one of the same place is there."""

import os
import socket
from pathlib import Path


def current_user() -> str:
    """`user@host` of this process."""
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container without such a user
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def place() -> str:
    """Where the number of a process means that process: this machine since its start, this container.

    Two containers may have one host name, and each a process 7 of its own.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        numbers = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # no Linux, and no containers either
        return socket.gethostname()
    return f"{socket.gethostname()}/{boot}/{numbers}"


def lives(pid: int) -> bool:
    """Whether a process of this place is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
