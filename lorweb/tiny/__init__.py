"""The embedded base: a FLUX.1-Kontext of a few million parameters that a laptop CPU can train and run."""
