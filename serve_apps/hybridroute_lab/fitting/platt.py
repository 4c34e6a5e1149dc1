"""Platt calibration: one logistic curve from a score to a probability."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["fit_platt"]

Floats = NDArray[np.float64]

_STEPS = 50
_RIDGE = 1.0
_LEAST_SLOPE = 1e-3


def fit_platt(scores: Floats, targets: Floats) -> tuple[float, float]:
    """Return slope and intercept of `P(target) = 1 / (1 + exp(-(slope * score + intercept)))`.

    Targets lie in 0 to 1. A weak prior pulls the slope to 0 and the mean to one half, which keeps constant
    targets finite. The slope is never below 0.001: scores that turned out worthless still give an order, and
    the certification rows say what it is worth.
    """
    weights = np.zeros(2)
    inputs = np.stack([scores, np.ones_like(scores)], axis=1)
    prior = np.array([_RIDGE, 1e-2])
    for _ in range(_STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(inputs @ weights, -30.0, 30.0)))
        gradient = inputs.T @ (chance - targets) + prior * weights
        curvature = (inputs * (chance * (1.0 - chance))[:, None]).T @ inputs + np.diag(prior)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step * min(1.0, 5.0 / float(np.abs(step).max() + 1e-12))
        if float(np.abs(step).max()) < 1e-9:
            break
    return max(_LEAST_SLOPE, float(weights[0])), float(weights[1])
