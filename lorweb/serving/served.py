"""What MLflow runs to load a registered model: models from code, so that no pickle is written or read.

Only MLflow executes this file. Doing so hands the model to MLflow's loader; nothing else happens.
"""

from pathlib import Path
from typing import Any


def announce() -> None:
    """Give MLflow's loader the seam round `AnalogyService`."""
    import mlflow
    from mlflow.pyfunc import PythonModel

    class ServedAnalogy(PythonModel):  # type: ignore[misc]
        def load_context(self, context: Any) -> None:
            from lorweb.serving.artifacts import CONTENT, check_content
            from lorweb.serving.faults import hear_of_dropped_columns
            from lorweb.serving.pyfunc import AnalogyService

            folder = Path(context.artifacts["model"])
            check_content(f"the model in {folder}", folder, (context.model_config or {}).get(CONTENT, ""))
            hear_of_dropped_columns()
            self.service = AnalogyService(folder)

        # MLflow takes type hints on predict for a schema of its own; the signature is logged beside the model
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
            from lorweb.serving.faults import server_seconds, told

            with told():
                return self.service.predict(model_input, server_seconds())

    mlflow.models.set_model(ServedAnalogy())


announce()
