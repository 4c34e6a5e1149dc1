"""Upper confidence bounds on a mean from one sample.

Clopper and Pearson's for 0/1 values is exact. For values between 0 and 1, Hoeffding's and Bentkus' inequalities
as combined by Bates et al., "Distribution-free, risk-controlling prediction sets" (2021), proposition 6.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

__all__ = ["binomial_upper", "hoeffding_bentkus_upper"]

Floats = NDArray[np.float64]

_STEPS = 50


def binomial_upper(successes: NDArray[np.integer] | int, rows: int, delta: float) -> Floats:
    """Return Clopper and Pearson's bound: below the true rate with probability at most `delta`."""
    counts = np.asarray(successes)
    upper = stats.beta.ppf(1.0 - delta, counts + 1.0, np.maximum(rows - counts, 1e-12))
    return np.asarray(np.where(counts >= rows, 1.0, upper), dtype=np.float64)


def hoeffding_bentkus_upper(totals: Floats | float, rows: int, delta: float) -> Floats:
    """Return bounds on the mean of `rows` values in 0 to 1, for each sum that they may have."""
    sums = np.atleast_1d(np.asarray(totals, dtype=np.float64))
    means = sums / rows
    low, high = means, np.ones_like(means)
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        possible = _p_values(means, sums, rows, middle) > delta
        low, high = np.where(possible, middle, low), np.where(possible, high, middle)
    return high


def _p_values(means: Floats, sums: Floats, rows: int, risks: Floats) -> Floats:
    """Return the smaller of both p-values for "the true mean is at least the risk"."""
    hoeffding = np.exp(-rows * (special.rel_entr(means, risks) + special.rel_entr(1.0 - means, 1.0 - risks)))
    bentkus = np.e * special.bdtr(np.ceil(sums - 1e-9), rows, risks)
    return np.asarray(np.where(means >= risks, 1.0, np.minimum(hoeffding, bentkus)))
