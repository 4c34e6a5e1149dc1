"""The Ray edge: each plain ASGI app becomes a Serve deployment here, and nowhere else."""
