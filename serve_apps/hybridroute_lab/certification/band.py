"""One level for Clopper and Pearson's bound that makes it hold at every threshold at once. Exact.

With F(t) the joint regret at threshold t, the values F(confidence) of the rows with regret are distributed as
the lower part of n independent uniform numbers. "The bound of k regrets is below the truth at some threshold" is
then "the (k+1)-th smallest of n uniform numbers exceeds the bound of k, for some k". How often that happens
depends on n and the level alone, and is computed here by a recursion over a Poisson process that is conditioned
on its total. Bonferroni over 100 thresholds needs level delta/100; this needs about delta/12 at 750 rows.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import signal, special

from hybridroute_lab.certification.bounds import binomial_upper

__all__ = ["band_bounds", "band_level", "checked_counts", "crossing_probability"]

Floats = NDArray[np.float64]

_HIGHEST_RATE = 0.5
_GROWTH = 1.04
_BISECTIONS = 24
_MAX_EXACT_ROWS = 6_000


def checked_counts(rows: int) -> NDArray[np.intp]:
    """Return the regret counts that have a bound of their own, ascending; a count between takes the next higher.

    All counts to 50, then steps of 4 %, up to half the rows: a coarser staircase costs fewer looks.
    """
    counts = [0]
    highest = int(rows * _HIGHEST_RATE)
    while counts[-1] < highest:
        counts.append(min(highest, max(counts[-1] + 1, int(counts[-1] * _GROWTH))))
    return np.array(counts, dtype=np.intp)


def crossing_probability(rows: int, level: float) -> float:
    """Return the probability that some bound at this level lies below the truth."""
    counts = checked_counts(rows)
    bounds = binomial_upper(counts, rows, level)
    states = np.zeros(rows + 1)
    states[0] = 1.0
    reached = 0.0
    for count, bound in zip(counts, bounds, strict=True):
        states = _spread(states, rows * (bound - reached))
        states[: count + 1] = 0.0  # fewer than count + 1 uniform numbers below the bound: crossed
        reached = bound
    rest = _poisson(rows - np.arange(rows + 1), rows * (1.0 - reached))
    inside = float(states @ rest) / float(_poisson(np.array(rows), rows))
    return min(1.0, max(0.0, 1.0 - inside))


@lru_cache(maxsize=256)
def band_level(rows: int, delta: float) -> float:
    """Return the highest level whose bounds hold together with probability 1 - `delta`.

    Beyond 6,000 rows the recursion takes too long, and delta is shared out among the checked counts: there the
    bounds are tight anyway.
    """
    if rows > _MAX_EXACT_ROWS:
        return delta / checked_counts(rows).size
    low, high = delta / checked_counts(rows).size, delta
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if crossing_probability(rows, middle) <= delta:
            low = middle
        else:
            high = middle
        if high - low < 3e-3 * low:
            break
    return low


@lru_cache(maxsize=64)
def band_bounds(rows: int, delta: float) -> tuple[NDArray[np.intp], Floats]:
    """Return the checked counts of some rows and their bounds, which hold together; not to be written to."""
    counts = checked_counts(rows)
    return counts, binomial_upper(counts, rows, band_level(rows, delta))


def _spread(states: Floats, mean: float) -> Floats:
    """Return the states after a Poisson number of further arrivals."""
    width = int(mean + 12.0 * np.sqrt(mean) + 40.0)
    arrivals = _poisson(np.arange(width + 1), mean)
    spread: Floats = signal.convolve(states, arrivals)[: states.size]
    return np.maximum(spread, 0.0)


def _poisson(counts: NDArray[np.integer], mean: float) -> Floats:
    """Return the probabilities of some counts; `scipy.stats` checks its arguments for longer than this takes."""
    return np.asarray(np.exp(special.xlogy(counts, mean) - special.gammaln(counts + 1.0) - mean))
