"""Ways onto a Ray cluster."""
