"""Held-out analogies measured: models, metrics, the report and the gate. Modules are imported by name."""
