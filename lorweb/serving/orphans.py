"""Runs that a killed process has left open are closed by the next one on the same machine: MLflow never does it."""

import os
import socket
from typing import Any, Final

from lorweb.serving.history import lives

PAGE: Final = 200


def owner_tags() -> dict[str, str]:
    """What names this process in the tags of a run."""
    return {"owner_host": socket.gethostname(), "owner_pid": str(os.getpid())}


def close_orphans(client: Any, experiment: str) -> list[str]:
    """Set runs whose process is gone from RUNNING to KILLED; returns their ids."""
    wanted = f"tags.owner_host = '{socket.gethostname()}' and attributes.status = 'RUNNING'"
    closed = []
    for run in client.search_runs([experiment], wanted, max_results=PAGE):
        if not lives(int(run.data.tags["owner_pid"])):
            client.set_terminated(run.info.run_id, "KILLED")
            closed.append(str(run.info.run_id))
    return closed
