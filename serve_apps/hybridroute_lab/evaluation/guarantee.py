"""Puts the promise to the test: certify on some rows, look at the risk on all others, many times.

The scores stay frozen; what changes is which of the rows that they have not seen certify and which judge. The
judging rows are themselves a sample: with n certification and m judging rows an exact rule at level delta shows
about Phi(-z_delta / sqrt(1 + n / m)) of violations. `violation_limit` is that plus two standard errors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hybridroute_lab.certification.table import certify_thresholds

__all__ = ["ALPHAS", "DELTA", "FrozenRouter", "measure_guarantee"]

Floats = NDArray[np.float64]

ALPHAS = (0.02, 0.05, 0.1)
DELTA = 0.1
LEAST_RESPLITS = 200


@dataclass(frozen=True, slots=True)
class FrozenRouter:
    """Scores on rows that they have not seen."""

    thresholds: Floats
    confidence: Floats
    weak: Floats
    strong: Floats


def measure_guarantee(
    routers: Sequence[FrozenRouter],
    certify_rows: int,
    rng: np.random.Generator,
    resplits: int = LEAST_RESPLITS,
) -> list[dict[str, float]]:
    """Return one row a risk: shares kept, risk, how often the promise broke, and how often it may."""
    each = math.ceil(resplits / len(routers))
    kept: dict[float, list[float]] = {alpha: [] for alpha in ALPHAS}
    kept_random: dict[float, list[float]] = {alpha: [] for alpha in ALPHAS}
    risks: dict[float, list[float]] = {alpha: [] for alpha in ALPHAS}
    judging = 0
    for router in routers:
        count = router.confidence.size
        judging = count - certify_rows
        for _ in range(each):
            order = rng.permutation(count)
            certify, judge = order[:certify_rows], order[certify_rows:]
            for alpha, share, risk in _resplit(router, router.confidence, certify, judge):
                kept[alpha].append(share)
                risks[alpha].append(risk)
            guessed = FrozenRouter(np.linspace(0.99, 0.0, 100), rng.random(count), router.weak, router.strong)
            for alpha, share, _ in _resplit(guessed, guessed.confidence, certify, judge):
                kept_random[alpha].append(share)
    rows = []
    for alpha in ALPHAS:
        violations = np.array(risks[alpha]) > alpha
        rows.append(
            {
                "alpha": alpha,
                "delta": DELTA,
                "kept": round(float(np.mean(kept[alpha])), 4),
                "kept_random": round(float(np.mean(kept_random[alpha])), 4),
                "risk": round(float(np.mean(risks[alpha])), 5),
                "violation_share": round(float(violations.mean()), 4),
                "violation_limit": round(violation_limit(certify_rows, judging, violations.size), 4),
            }
        )
    return rows


def violation_limit(certify_rows: int, judging_rows: int, resplits: int) -> float:
    """Return the share of violations that an exact rule may show, with two standard errors."""
    exact = float(stats.norm.cdf(-stats.norm.isf(DELTA) / math.sqrt(1.0 + certify_rows / judging_rows)))
    return exact + 2.0 * math.sqrt(exact * (1.0 - exact) / resplits)


def _resplit(
    router: FrozenRouter, confidence: Floats, certify: NDArray[np.intp], judge: NDArray[np.intp]
) -> list[tuple[float, float, float]]:
    table = certify_thresholds(
        router.thresholds, confidence[certify], router.weak[certify], router.strong[certify], deltas=(DELTA,)
    )
    regret = np.maximum(0.0, router.strong[judge] - router.weak[judge])
    found = []
    for alpha in ALPHAS:
        threshold = table.threshold_for(alpha, DELTA).threshold
        keeps = (
            confidence[judge] >= threshold if threshold is not None else np.zeros(judge.size, dtype=np.bool_)
        )
        found.append((alpha, float(keeps.mean()), float((regret * keeps).mean())))
    return found
