"""Numbers that say what a router is worth. Scores here rank: the highest are sent to the large model first.

APGR and CPT as RouteLLM defines them (Ong et al., 2024): with the quality at 0 % and at 100 % of calls to the large
model as 0 and 1, APGR is the mean recovered quality over all shares of calls, and CPT(x) the smallest share, in
percent, that recovers x % of it. Ties are broken evenly, so no order of rows helps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "CostQuality",
    "area_gained",
    "area_under_roc",
    "calibration_error",
    "cost_quality",
    "false_positives_at",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CostQuality:
    """Recovered quality by share of calls to the large model."""

    share: Floats
    """0 to 1."""
    recovered: Floats
    """0 at no calls, 1 at all."""

    @property
    def apgr(self) -> float:
        """Mean of recovered quality over all shares."""
        return float(np.trapezoid(self.recovered, self.share))

    def cpt(self, percent: float) -> float:
        """Return the smallest share of calls, in percent, that recovers `percent` of the quality."""
        return 100.0 * float(self.share[int(np.argmax(self.recovered >= percent / 100.0))])


def cost_quality(scores: Floats, weak: Floats, strong: Floats) -> CostQuality:
    """Return the curve of a ranking. Raises `ValueError` where the large model is no better on these rows."""
    gains = strong - weak
    if gains.sum() <= 0.0:
        raise ValueError(
            "the large model is not better than the small one on these rows: there is nothing to recover"
        )
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    evened = (np.bincount(group, weights=gains) / sizes)[np.sort(group)]
    recovered = np.concatenate([[0.0], np.cumsum(evened)]) / gains.sum()
    return CostQuality(np.linspace(0.0, 1.0, gains.size + 1), recovered)


def area_under_roc(positive: Floats, negative: Floats) -> float:
    """Return the chance that a positive's score is above a negative's, ties counting half; NaN for an empty side."""
    if not positive.size or not negative.size:
        return float("nan")
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    above = ranks[: positive.size].sum() - positive.size * (positive.size + 1) / 2.0
    return float(above / (positive.size * negative.size))


def area_gained(ours: tuple[Floats, Floats], theirs: tuple[Floats, Floats]) -> tuple[float, float]:
    """Return the difference of two scores' areas on the same rows, and its standard deviation over draws of rows.

    Each score: of the positives and of the negatives, in the same order of rows. The deviation is that of DeLong et
    al. (1988), which a bootstrap that draws rows, with both scores of a row, comes to. Raises `ValueError` for an
    empty side.
    """
    if not all(side.size for side in ours):
        raise ValueError("a difference of areas needs positives and negatives")
    positives, negatives = (
        mine - other for mine, other in zip(_shares_beaten(*ours), _shares_beaten(*theirs), strict=True)
    )
    variance = positives.var() / positives.size + negatives.var() / negatives.size
    return float(positives.mean()), float(np.sqrt(variance))


def _shares_beaten(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """Return each positive's share of negatives below it, and each negative's share of positives above it."""
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    below = (ranks[: positive.size] - stats.rankdata(positive)) / negative.size
    above = 1.0 - (ranks[positive.size :] - stats.rankdata(negative)) / positive.size
    return below, above


def false_positives_at(share: float, positive: Floats, negative: Floats) -> float:
    """Return the share of negatives that pass the threshold which lets `share` of the positives pass."""
    threshold = float(np.quantile(positive, 1.0 - share))
    return float((negative >= threshold).mean())


def calibration_error(confidence: Floats, right: Floats, bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal size."""
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, order.size))
    return float(
        sum(abs(confidence[part].mean() - right[part].mean()) * part.size for part in parts) / order.size
    )
