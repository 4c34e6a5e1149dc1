"""What recorded requests would have cost at other risks: the cost-quality curve of a calibrated policy. Pure.

Each recorded request has the confidence that it was decided with, so what another threshold would have kept is counted
and not guessed. Quality is the certified table's: joint regret as counted on the certification rows, and its upper
bound. Dollars are estimated: an escalated request costs what escalated ones did on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hybridroute_serve.routing.artifact.promise import PromiseTable

__all__ = ["RISKS", "Outlook", "OutlookPoint", "ScoredRequest", "plan_outlook"]

RISKS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2)


@dataclass(frozen=True, slots=True)
class ScoredRequest:
    """One recorded request that the policy scored."""

    confidence: float
    in_scope: bool
    kept: bool
    """The SLM served it."""
    llm_nano_usd: int | None
    """What the LLM path cost; None where the LLM did not serve it."""


@dataclass(frozen=True, slots=True)
class OutlookPoint:
    """What one threshold would have made of the requests."""

    max_risk: float | None
    """The risk that the threshold belongs to; None for a threshold that was none of the table's."""
    threshold: float | None
    """None keeps nothing."""
    kept_share: float
    regret: float | None
    """Joint regret as counted on the certification rows; None where nothing says."""
    regret_at_most: float | None
    """Its certified upper bound."""
    llm_nano_usd: int | None
    """Dollars for the escalated requests, estimated; None while the LLM has served none."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The curve and where the route is on it."""

    requests: int
    today: OutlookPoint
    """What really happened: kept by whatever gate, at what the LLM path really cost."""
    points: tuple[OutlookPoint, ...]


def plan_outlook(
    requests: Sequence[ScoredRequest],
    table: PromiseTable,
    *,
    delta: float,
    max_risk: float | None,
    threshold: float | None,
) -> Outlook:
    """Return the curve over `RISKS`, and today's point with the risk and threshold in force."""
    risks = sorted({*RISKS, *((max_risk,) if max_risk is not None else ())})
    bills = [request.llm_nano_usd for request in requests if request.llm_nano_usd is not None]
    mean = sum(bills) / len(bills) if bills else None
    points = []
    for risk in risks:
        promise = table.threshold_for(risk, delta)
        kept = _share_kept(requests, promise.threshold)
        quality = _quality(table, promise.threshold, delta)
        escalated = None if mean is None else round(mean * (1.0 - kept) * len(requests))
        points.append(OutlookPoint(risk, promise.threshold, kept, *quality, escalated))
    served = sum(request.kept for request in requests) / len(requests) if requests else 0.0
    today = OutlookPoint(
        max_risk, threshold, served, *_quality(table, threshold, delta), sum(bills) if bills else None
    )
    return Outlook(len(requests), today, tuple(points))


def _share_kept(requests: Sequence[ScoredRequest], threshold: float | None) -> float:
    if threshold is None or not requests:
        return 0.0
    return sum(item.in_scope and item.confidence >= threshold for item in requests) / len(requests)


def _quality(table: PromiseTable, threshold: float | None, delta: float) -> tuple[float | None, float | None]:
    """Return regret and bound of the strictest certified point that keeps all that the threshold keeps."""
    if threshold is None:
        return 0.0, 0.0
    usable = [stored for stored in table.deltas() if stored <= delta + 1e-12]
    point = next((point for point in table.points if point.threshold <= threshold), None)
    if point is None or not usable:
        return None, None
    return point.regret / table.rows, point.upper[f"{usable[-1]:g}"]
