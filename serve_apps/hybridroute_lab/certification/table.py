"""Counts what each threshold would have kept on fresh rows, and bounds the joint regret at all of them at once."""

import numpy as np
from numpy.typing import NDArray

from hybridroute_lab.certification.band import band_bounds
from hybridroute_lab.certification.bounds import hoeffding_bentkus_upper
from hybridroute_serve.routing.artifact.promise import CertifiedPoint, PromiseTable

__all__ = ["DELTAS", "certify_thresholds", "choose_thresholds", "upper_bounds"]

Floats = NDArray[np.float64]

DELTAS = (0.01, 0.05, 0.1, 0.2)
"""Bounds are stored for these, so that `delta` can be edited too."""

_POINTS_BINARY = 200
_POINTS_GRADED = 40


def choose_thresholds(confidence: Floats, *, graded: bool) -> Floats:
    """Return thresholds from strict to loose at equal shares of rows that were learned from.

    They are part of what is frozen before certification. For 0/1 labels the bounds hold for every threshold and
    points are only paid for in bytes; for graded ones each point costs a share of delta.
    """
    count = _POINTS_GRADED if graded else _POINTS_BINARY
    shares = np.arange(1, count) / count
    thresholds = np.quantile(confidence, 1.0 - shares)
    return np.unique(np.append(thresholds, 0.0))[::-1]


def certify_thresholds(
    thresholds: Floats,
    confidence: Floats,
    weak: Floats,
    strong: Floats,
    deltas: tuple[float, ...] = DELTAS,
) -> PromiseTable:
    """Return the certified table. The rows must be fresh: nothing may have been learned or chosen with them."""
    regret = np.maximum(0.0, strong - weak)
    graded = bool(np.any((regret > 0.0) & (regret < 1.0)))
    order = np.argsort(-confidence, kind="stable")
    kept = np.searchsorted(-confidence[order], -thresholds, side="right")
    sums = {
        "regret": _running(regret[order]),
        "wrong": _running(1.0 - weak[order]),
        "better": _running((strong - weak)[order]),
    }
    totals = sums["regret"][kept]
    bounds = {f"{delta:g}": upper_bounds(totals, confidence.size, delta, graded=graded) for delta in deltas}
    points = tuple(
        CertifiedPoint(
            threshold=float(threshold),
            kept=int(count),
            regret=round(float(totals[number]), 6),
            slm_wrong=round(float(sums["wrong"][count]), 6),
            llm_better=round(float(sums["better"][count]), 6),
            upper={key: round(float(values[number]) + 5e-7, 6) for key, values in bounds.items()},
        )
        for number, (threshold, count) in enumerate(zip(thresholds, kept, strict=True))
    )
    method = (
        f"Hoeffding-Bentkus, delta shared by Bonferroni among {thresholds.size} thresholds"
        if graded
        else "Clopper-Pearson at one exact level for all thresholds"
    )
    return PromiseTable(int(confidence.size), method, points)


def upper_bounds(totals: Floats, rows: int, delta: float, *, graded: bool) -> Floats:
    """Return bounds on the joint regret for ascending sums of regret, all holding at once."""
    if graded:
        level = delta / totals.size
        bounds = hoeffding_bentkus_upper(totals, rows, level)
    else:
        checked, levels = band_bounds(rows, delta)
        place = np.searchsorted(checked, np.round(totals).astype(np.intp), side="left")
        bounds = np.append(levels, 1.0)[place]
    return np.maximum.accumulate(bounds)


def _running(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])
