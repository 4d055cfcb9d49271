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
            from lorweb.serving.pyfunc import AnalogyService

            self.service = AnalogyService(Path(context.artifacts["model"]))

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:  # noqa: ARG002  MLflow's names
            return self.service.predict(model_input)

    mlflow.models.set_model(ServedAnalogy())


announce()
