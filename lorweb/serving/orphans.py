"""What killed or failed processes have left in MLflow: open runs are closed, models that are no version are removed."""

import logging
import os
import socket
import time
from contextlib import suppress
from typing import Any, Final

from lorweb.serving.processes import lives, place

LOG: Final = logging.getLogger(__name__)
PAGE: Final = 200
PENDING: Final = "pending"  # tag of a run, "yes" while its model is no version yet, or is one no longer
GRACE: Final = 600.0  # s, in which a server may still carry out what a process asked it before it died


def owner_tags() -> dict[str, str]:
    """What names this process in the tags of a run."""
    return {"owner_host": socket.gethostname(), "owner_place": place(), "owner_pid": str(os.getpid())}


def tidy(client: Any, experiment: str) -> None:
    """Close and remove what dead processes of this place have left in an experiment. Several may do so at once."""
    close_orphans(client, experiment)
    remove_pending(client, experiment)


def close_orphans(client: Any, experiment: str) -> list[str]:
    """Set runs whose process was here and is gone from RUNNING to KILLED; MLflow never does. Returns their ids."""
    from mlflow.exceptions import MlflowException

    wanted = f"tags.owner_place = '{place()}' and attributes.status = 'RUNNING'"
    closed = []
    for run in client.search_runs([experiment], wanted, max_results=PAGE):
        if not lives(int(run.data.tags["owner_pid"])):
            with suppress(MlflowException):  # another process was here first
                client.set_terminated(run.info.run_id, "KILLED")
                closed.append(str(run.info.run_id))
    return closed


def remove_pending(client: Any, experiment: str) -> list[str]:
    """Delete runs whose process was here and died before their model was a version, or after it had taken that back.

    Returns their ids. A model that is a version, of whatever name, stays. Where a place is but a host's name, which two
    machines may have, nothing is deleted.
    """
    gone: list[str] = []
    if "/" not in place():
        return gone
    for run in client.search_runs([experiment], f"tags.owner_place = '{place()}' and tags.{PENDING} = 'yes'"):
        name, ended = str(run.info.run_id), run.info.end_time
        if lives(int(run.data.tags["owner_pid"])) or not ended or time.time() - ended / 1000 < GRACE:
            continue
        if client.search_model_versions(f"run_id = '{name}'"):  # asked last: the dead register no more
            client.set_tag(name, PENDING, "no")
        elif try_to_remove(client, run):
            gone.append(name)
    return gone


def remove_failed(client: Any, experiment: str, tag: str, value: str) -> list[str]:
    """Delete this process's FAILED runs that carry a tag, with the files and models they logged; returns their ids.

    A model that is logged again, whole, would otherwise leave its weights behind with each try.
    """
    owner = f"tags.owner_place = '{place()}' and tags.owner_pid = '{os.getpid()}'"
    removed = []
    for run in client.search_runs([experiment], f"{owner} and tags.{tag} = '{value}' and attributes.status = 'FAILED'"):
        remove_run(client, run)
        removed.append(str(run.info.run_id))
    return removed


def try_to_remove(client: Any, run: Any) -> bool:
    """`remove_run`; where that fails, says so on the log and returns False: no work fails for want of tidiness."""
    try:
        remove_run(client, run)
    except Exception as error:  # stores raise errors of their own, such as botocore's
        LOG.warning("run %s, whose model is no version, cannot be removed: %s", run.info.run_id, error)
        return False
    return True


def remove_run(client: Any, run: Any) -> None:
    """Delete a run with the files and models that it logged."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    for model in client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"):
        get_artifact_repository(model.artifact_location).delete_artifacts()
        client.delete_logged_model(model.model_id)
    get_artifact_repository(run.info.artifact_uri).delete_artifacts()
    client.delete_run(run.info.run_id)
