"""Mean and spread, as every report writes them."""

from collections.abc import Sequence

import numpy as np

__all__ = ["Summary", "summarise"]

Summary = dict[str, float]


def summarise(values: Sequence[float], digits: int = 4) -> Summary:
    """Return mean and standard deviation over seeds."""
    return {"mean": round(float(np.mean(values)), digits), "std": round(float(np.std(values)), digits)}
