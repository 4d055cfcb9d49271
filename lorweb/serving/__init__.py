"""Registry and served model: the only place in lorweb that imports MLflow or Gradio, inside functions."""
