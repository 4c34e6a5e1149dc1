"""Streaming charts that notice when traffic drifts from what an artifact was made on. Pure: state in, state out.

Each chart is a one-sided CUSUM: it adds up, never below zero, how much better an observation is explained by "a
share of the traffic is new" than by "all is as before", and rings at its limit.

    scope            rises with unusually low scope scores
    confidence_low   rises with unusually low confidences
    confidence_high  rises with unusually high ones
    clusters         the highest of one chart a cluster, each rising with that cluster's share

Traffic comes in sessions, and six low scores of one session are hardly more news than one: a request whose topic
is among the last few counts a fifth. Without that, limits that bear sessions make the charts twice as slow.

A score is judged by its rank among the baseline's, so that no chart depends on a scale. The lab sets the limits by
block bootstrap for all charts together, see `hybridroute_lab.drift.limits`. Who runs the charts and what an alarm
does is not said here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridroute_serve.routing.artifact.header import DriftBaseline

__all__ = [
    "CHARTS",
    "LEVELS",
    "REPEAT_WEIGHT",
    "DriftCharts",
    "DriftState",
    "cluster_steps",
    "rank_steps",
]

CHARTS = ("scope", "confidence_low", "confidence_high", "clusters")

_TAIL_LEVELS = (
    0.002,
    0.004,
    0.007,
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.05,
    0.065,
    0.08,
    0.1,
    0.125,
    0.15,
    0.2,
    0.25,
)

LEVELS: tuple[float, ...] = (
    *_TAIL_LEVELS,
    *(0.3, 0.4, 0.5, 0.6, 0.7),
    *(1.0 - level for level in reversed(_TAIL_LEVELS)),
)
"""Ranks at which a baseline stores quantiles: the same from either end, dense where new traffic falls."""

INJECTED_SHARE = 0.2
"""The share of new traffic that the charts are best at. A smaller one is noticed later, a larger one sooner."""

TAIL = 0.25
"""New traffic's ranks are expected to be distributed as u ** TAIL: 21 % of them in the lowest 0.2 %. New topics are
seldom stranger than that: with 0.15 the charts take half as long again."""

HIGHEST_STEP = 1.5
"""No request adds more to a chart of ranks: the lowest ranks are too few to be known exactly."""

REPEAT_WEIGHT = 0.2
"""What a request of a recent topic counts."""

_RELEASE = 0.5
_CEILING = 2.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DriftState:
    """Where the charts stand. Small, and handed from replica to replica as JSON."""

    scope: float = 0.0
    confidence_low: float = 0.0
    confidence_high: float = 0.0
    clusters: tuple[float, ...] = ()
    recent: tuple[int, ...] = ()
    """Topics of the last requests, the newest last."""
    requests: int = 0
    """Requests seen since the artifact was put in place."""
    ringing: tuple[str, ...] = ()
    """Charts that rang and have not fallen to half their limit since: hysteresis, so that an alarm does not flap."""


def rank_steps() -> Floats:
    """Return what a rank between two `LEVELS` adds to its chart: the logarithm of a likelihood ratio."""
    cuts = np.concatenate([[0.0], LEVELS, [1.0]])
    expected = np.diff(cuts)
    shifted = np.diff(cuts**TAIL)
    ratios = np.log(1.0 - INJECTED_SHARE + INJECTED_SHARE * shifted / expected)
    return np.asarray(np.minimum(ratios, HIGHEST_STEP))


def cluster_steps(shares: Floats) -> tuple[Floats, float]:
    """Return what a request adds to the chart of its own cluster, and to all others."""
    own = np.log(1.0 - INJECTED_SHARE + INJECTED_SHARE / np.maximum(shares, 1e-4))
    return own, float(np.log(1.0 - INJECTED_SHARE))


class DriftCharts:
    """The charts of one artifact."""

    def __init__(self, baseline: DriftBaseline) -> None:
        self._limits = baseline.limits
        self._recent = baseline.recent
        self._scope = np.array(baseline.scope_quantiles)
        self._confidence = np.array(baseline.confidence_quantiles)
        self._ranks = rank_steps()
        self._own, self._other = cluster_steps(np.array(baseline.cluster_shares))

    def observe(
        self, state: DriftState, *, scope: float, cluster: int, topic: int, confidence: float | None
    ) -> DriftState:
        """Return the state after one more request."""
        weight = REPEAT_WEIGHT if topic in state.recent else 1.0
        place = int(np.searchsorted(self._scope, scope))
        levels = {"scope": self._raised("scope", state.scope, weight * self._ranks[place])}
        if confidence is not None and self._confidence.size:
            place = int(np.searchsorted(self._confidence, confidence))
            low, high = weight * self._ranks[place], weight * self._ranks[-1 - place]
            levels["confidence_low"] = self._raised("confidence_low", state.confidence_low, low)
            levels["confidence_high"] = self._raised("confidence_high", state.confidence_high, high)
        clusters = np.array(state.clusters) if state.clusters else np.zeros(self._own.size)
        steps = np.full(self._own.size, self._other)
        steps[cluster] = self._own[cluster]
        ceiling = _CEILING * self._limits.get("clusters", np.inf)
        clusters = np.clip(clusters + weight * steps, 0.0, ceiling)
        levels["clusters"] = float(clusters.max())
        return DriftState(
            scope=levels["scope"],
            confidence_low=levels.get("confidence_low", 0.0),
            confidence_high=levels.get("confidence_high", 0.0),
            clusters=tuple(clusters.tolist()),
            recent=(*state.recent, topic)[-self._recent :],
            requests=state.requests + 1,
            ringing=self._ringing(state.ringing, levels),
        )

    def evidence(self, state: DriftState) -> dict[str, float]:
        """Return each running chart's level as a share of its limit: 1 and more rings."""
        levels = {
            "scope": state.scope,
            "confidence_low": state.confidence_low,
            "confidence_high": state.confidence_high,
            "clusters": max(state.clusters, default=0.0),
        }
        return {chart: levels[chart] / limit for chart, limit in self._limits.items()}

    def _raised(self, chart: str, level: float, step: float) -> float:
        ceiling = _CEILING * self._limits.get(chart, np.inf)
        return float(min(ceiling, max(0.0, level + step)))

    def _ringing(self, before: tuple[str, ...], levels: dict[str, float]) -> tuple[str, ...]:
        return tuple(
            chart
            for chart, limit in self._limits.items()
            if chart in levels and levels[chart] >= (_RELEASE * limit if chart in before else limit)
        )
