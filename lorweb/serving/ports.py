"""Whether a server may listen at an address, asked before anything is loaded, and said in a sentence."""

import errno
import socket
from typing import Final

TRIED: Final = 50  # ports after the one that is taken
LAST: Final = 65535


def check_address(host: str, port: int) -> None:
    """Raises ValueError where no server can listen at (host, port); names a port that is free, if one is near."""
    try:
        _bind(host, port)
    except socket.gaierror as error:
        raise ValueError(
            f"there is no address '{host}' ({error.strerror}); give --host 127.0.0.1 for this machine alone, 0.0.0.0 "
            "for all of its networks"
        ) from error
    except OSError as error:
        raise ValueError(_why(host, port, error)) from error


def _bind(host: str, port: int) -> None:
    """As a server would."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was closed just now may linger
        probe.bind(address)
        probe.listen()


def _why(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        free = _near(host, port)
        return f"port {port} of {host} is taken by another program; " + (
            f"port {free} is free: --port {free}" if free else "give another one with --port"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {host}; give --host 127.0.0.1, or 0.0.0.0 for all of its networks"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} of {host} may not be used by this user; give one above 1023 with --port"
    return f"nothing can listen at port {port} of {host} ({error.strerror}); give another --port or --host"


def _near(host: str, port: int) -> int | None:
    for other in range(port + 1, min(port + TRIED, LAST) + 1):
        try:
            _bind(host, other)
        except OSError:
            continue
        return other
    return None
