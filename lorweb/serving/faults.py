"""Faults of a request as MLflow's server tells them: JSON with one sentence, and a code that says whose they are."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from lorweb.serving.images import BadRequest

SHARE: Final = 0.9  # of the server's time: it then still gets our sentence, and not only the end of its own patience
_log = logging.getLogger(__name__)


@contextmanager
def told() -> Iterator[None]:
    """Turn what a service raises into MLflow's exceptions: 400 for the caller's faults, 504 for the time, 500 else.

    Left to itself, MLflow answers every exception with 400 and a traceback.

    Raises:
        MlflowException: its JSON holds the sentence alone; a traceback of our own faults goes into the log.
    """
    from mlflow.protos.databricks_pb2 import DEADLINE_EXCEEDED, INTERNAL_ERROR, INVALID_PARAMETER_VALUE

    try:
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
