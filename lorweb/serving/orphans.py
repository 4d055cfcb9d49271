"""What killed or failed processes have left in MLflow: open runs are closed, models that are no version are removed."""

import logging
import os
import socket
from typing import Any, Final

from lorweb.serving.processes import lives, place

LOG: Final = logging.getLogger(__name__)
PAGE: Final = 200
PENDING: Final = "pending"  # tag of a run whose model is no version yet, or is one no longer


def owner_tags() -> dict[str, str]:
    """What names this process in the tags of a run."""
    return {"owner_host": socket.gethostname(), "owner_place": place(), "owner_pid": str(os.getpid())}


def close_orphans(client: Any, experiment: str) -> list[str]:
    """Set runs whose process was here and is gone from RUNNING to KILLED; MLflow never does. Returns their ids."""
    wanted = f"tags.owner_place = '{place()}' and attributes.status = 'RUNNING'"
    closed = []
    for run in client.search_runs([experiment], wanted, max_results=PAGE):
        if not lives(int(run.data.tags["owner_pid"])):
            client.set_terminated(run.info.run_id, "KILLED")
            closed.append(str(run.info.run_id))
    return closed


def remove_pending(client: Any, experiment: str) -> list[str]:
    """Delete runs whose process was here and died before their model was a version, or after it had taken that back.

    Returns their ids. A model that is a version, of whatever name, stays.
    """
    gone = []
    for run in client.search_runs([experiment], f"tags.owner_place = '{place()}' and tags.{PENDING} = 'yes'"):
        name = str(run.info.run_id)
        if lives(int(run.data.tags["owner_pid"])):
            continue
        if client.search_model_versions(f"run_id = '{name}'"):  # asked last: the dead register no more
            client.delete_tag(name, PENDING)
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
    """`remove_run`; where its files cannot be deleted, says so on the log and returns False."""
    from mlflow.exceptions import MlflowException

    try:
        remove_run(client, run)
    except (MlflowException, OSError) as error:
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
