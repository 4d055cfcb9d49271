"""The eight stages of dvc.yaml, one module each: wiring of `lorweb` to Ray, files and the registry, nothing else."""
