"""Ray's client of a job server: at the address that was given, and no other."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from cluster.faults import HeadError

CHATTY: Final = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
ELSEWHERE: Final = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray lets these win over the address that it is given


def connect(address: str) -> Any:
    """A client of the head at `address`, whose port answers. Raises HeadError: no address; OSError: no answer."""
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        """With limits of time: Ray's own waits for ever for a machine that went away without a word."""

        def _do_request(self, *arguments: Any, **named: Any) -> Any:
            return super()._do_request(*arguments, timeout=(10, 120), **named)

    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    if "@" in address:  # also where the http:// was forgotten
        raise HeadError(
            "the address of the job server names a user or a password, and Ray takes neither; give http://HOST:8265, "
            "and the token of the cluster in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        )
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HeadError(f"'{address}' is no address of a job server; give http://HOST:8265")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((parts.hostname, port), timeout=10).close()
    with _no_other_address():
        return Client(address)


def stop_command(name: str, address: str) -> str:
    """For people: what ends a job of the head at `address`, in the shell that this runs in."""
    without = "".join(f"-u {other} " for other in ELSEWHERE if other in os.environ)
    return f"{f'env {without}' if without else ''}ray job stop {name} --address {address}"


@contextmanager
def _no_other_address() -> Iterator[None]:
    """Without the variables that name another cluster: that of the job which this runs in, or of a stage run here."""
    kept = {name: os.environ.pop(name) for name in ELSEWHERE if name in os.environ}
    try:
        yield
    finally:
        os.environ |= kept
