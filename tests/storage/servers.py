"""A real S3 server on loopback, in a process of its own."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.head import free_port

BUCKET = "bucket"


@contextmanager
def s3_server(open_requests: float = float("inf")) -> Iterator[str]:
    """Its endpoint; it holds one empty bucket. After so many requests it asks who one is, and knows nobody."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": str(open_requests)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert process.poll() is None, "the server ended before it answered"
            try:
                urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT"), timeout=5)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        else:
            raise AssertionError("no S3 server")
        yield endpoint
    finally:
        process.kill()
        process.wait()
