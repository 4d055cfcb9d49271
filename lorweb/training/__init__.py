"""Training of the basis and its baselines: data, steps, checkpoints, validation. See `loop.train`.

Modules are imported by name: `sampler` and `state` stay free of diffusers.
"""
