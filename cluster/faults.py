"""What the faults of a job server mean."""

import errno
import socket
from typing import Final

NO_WAY: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH)


class HeadError(Exception):
    """The head cannot be used; the message says why and what to do."""


def is_away(error: Exception) -> bool:
    """Whether a fault says that the head is not there for now."""
    import aiohttp
    import requests

    if isinstance(error, ConnectionError | requests.RequestException | aiohttp.ClientError | TimeoutError):
        return True
    if isinstance(error, OSError) and (isinstance(error, socket.gaierror) or error.errno in NO_WAY):
        return True
    said = str(error) if isinstance(error, RuntimeError) else ""
    return (
        not still_runs(error)
        and not is_taken(error)
        and any(f"status code {code}" in said for code in (500, 502, 503, 504))
    )


def is_unknown(error: Exception) -> bool:
    """Whether the head knows no such job."""
    return "status code 404" in str(error)


def is_taken(error: Exception) -> bool:
    """Whether Ray refused a job for its name, which another one has; inside the head it may become an error (500)."""
    return isinstance(error, RuntimeError) and "already exists" in str(error)


def still_runs(error: Exception) -> bool:
    """Whether Ray refused to delete a job for that; it calls it an error of its own (500)."""
    return isinstance(error, RuntimeError) and "non-terminal state" in str(error)


def who_are_you(address: str, error: Exception) -> str:
    """The sentence for a token that is missing or refused."""
    if "required" in str(error).splitlines()[0]:
        return (
            f"the head at {address} asks for a token, and none was sent; export RAY_AUTH_MODE=token, and put the "
            "token of the cluster into ~/.ray/auth_token or RAY_AUTH_TOKEN"
        )
    return (
        f"the head at {address} refused the token; put the token of that cluster into ~/.ray/auth_token, or into "
        "RAY_AUTH_TOKEN, which comes first"
    )


def words(error: Exception) -> str:
    """The first line of a fault, not too long."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (first or type(error).__name__)[:300]
