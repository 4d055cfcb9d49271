"""Where MLflow lives: one rule for the address, a database that is made on first use, and a server that must answer."""

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

EXPERIMENT: Final = "lorweb"
TIMEOUT: Final = 5.0  # s, for a server's sign of life


def tracking_uri(root: Path = Path()) -> str:
    """`MLFLOW_TRACKING_URI` if it is set, else the SQLite file `mlflow.db` in the project root, as an absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def open_client(root: Path = Path(), create: bool = False) -> Any:
    """An MlflowClient at `tracking_uri(root)`, which also becomes MLflow's own address in this process.

    Raises:
        ValueError: the server does not answer, or there is no database and `create` is false; says what to do.
    """
    uri = tracking_uri(root)
    check_reachable(uri, create)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    _quiet()
    given = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)  # also writes the variable, which would outlive this project root
    mlflow.set_registry_uri(uri)
    if given is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    return mlflow.MlflowClient(uri, uri)


def experiment_id(client: Any, root: Path = Path()) -> str:
    """The experiment `lorweb`, made on first use; beside an SQLite database its artifacts lie in `mlartifacts/`."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    local = tracking_uri(root).startswith("sqlite:")
    location = (root.resolve() / "mlartifacts").as_uri() if local else None
    return str(client.create_experiment(EXPERIMENT, artifact_location=location))


def check_reachable(uri: str, create: bool) -> None:
    """Raises ValueError if the server does not answer, or the database is missing (unless `create`) or read-only."""
    if uri.startswith(("http://", "https://")):
        try:
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=TIMEOUT).close()
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise ValueError(
                f"the MLflow server at {uri} does not answer ({reason}); start it, "
                "or unset MLFLOW_TRACKING_URI to use mlflow.db"
            ) from error
    elif uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.is_file() and not create:
            raise ValueError(
                f"there is no model registry at {path}; give --model PATH (a folder or a basis.safetensors), set "
                "MLFLOW_TRACKING_URI, or run from the root of a project where `make run` has finished"
            )
        if not os.access(path if path.is_file() else path.parent, os.W_OK):
            raise ValueError(
                f"{path} cannot be written; make it writable, or set MLFLOW_TRACKING_URI to another database"
            )


def _quiet() -> None:
    """MLflow reports every migration step and model load on the console; keep what is a warning or worse."""
    import logging

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
