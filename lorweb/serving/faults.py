"""Faults of a request as MLflow's server tells them: JSON with one sentence, and a code that says whose they are."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from lorweb.config_errors import unknown_name
from lorweb.serving.images import BadRequest
from lorweb.serving.rows import IMAGES, OPTIONS

DROPPED: Final = re.compile(r"Found extra inputs .*?`\[(.*)\]`", re.S)  # what MLflow says when it drops columns
SHARE: Final = 0.9  # of the server's time: it then still gets our sentence, and not only the end of its own patience
_log = logging.getLogger(__name__)
# of the request that runs: its columns that MLflow dropped. The server gives every request a context of its own.
_dropped: ContextVar[str] = ContextVar("lorweb_dropped_columns", default="")


class _Ear(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        found = DROPPED.search(record.getMessage())
        if found:
            _dropped.set(found[1])


def hear_of_dropped_columns() -> None:
    """Let `told` refuse columns that the signature has not.

    MLflow drops them before a model sees them, so that a misspelt `seed` would be seed 0; it tells its log, and no one
    else. Should it tell otherwise one day, columns are dropped as they are without this.
    """
    log = logging.getLogger("mlflow.models.utils")
    if not any(isinstance(handler, _Ear) for handler in log.handlers):
        log.addHandler(_Ear())


@contextmanager
def told() -> Iterator[None]:
    """Turn what a service raises into MLflow's exceptions: 400 for the caller's faults, 504 for the time, 500 else.

    Left to itself, MLflow answers every exception with 400 and a traceback.

    Raises:
        MlflowException: its JSON holds the sentence alone; a traceback of our own faults goes into the log.
    """
    from mlflow.protos.databricks_pb2 import DEADLINE_EXCEEDED, INTERNAL_ERROR, INVALID_PARAMETER_VALUE

    dropped = _dropped.get()
    _dropped.set("")
    try:
        if dropped:
            raise BadRequest(unknown_name("column", dropped.split(", ")[0].strip("'\""), (*IMAGES, *OPTIONS)))
        yield
    except BadRequest as error:
        raise _answer(str(error), INVALID_PARAMETER_VALUE) from error
    except TimeoutError as error:
        raise _answer(str(error), DEADLINE_EXCEEDED) from error
    except Exception as error:
        _log.exception("a valid request could not be answered")
        sentence = f"the model failed on a valid request ({type(error).__name__}); the log of the server says where"
        raise _answer(sentence, INTERNAL_ERROR) from error


def server_seconds() -> float | None:
    """How long a request may take: most of what `mlflow models serve --timeout` says; None outside of a server."""
    from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT as LIMIT

    return SHARE * LIMIT.get() if LIMIT.is_set() else None


def _answer(sentence: str, code: int) -> Any:
    from mlflow.exceptions import MlflowException

    class Told(MlflowException):  # type: ignore[misc]
        """MLflow's server puts a print of the data in front of a message; the caller is told the sentence alone."""

        def serialize_as_json(self) -> str:
            self.message = sentence
            text: str = super().serialize_as_json()
            return text

    return Told(sentence, error_code=code)
