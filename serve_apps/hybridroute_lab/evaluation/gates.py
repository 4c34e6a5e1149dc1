"""What each gate is worth when part of the traffic is new: kept, regret, and regret of the new part. For the docs.

Half of the categories are known: labels come from them alone. The traffic is their other rows with a share of rows
from the other half, in random order. Each set of gates decides the same requests; the drift gate is the charts that
a route runs, fed one request at a time, and tightens from the request after its alarm on.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridroute_lab.calibrate import CalibrateOptions, calibrate_outcomes
from hybridroute_lab.evaluation.summary import summarise
from hybridroute_lab.feature_table import Progress, no_progress
from hybridroute_lab.scoring import ScoredRows, score_prompts
from hybridroute_lab.tables import DataError, Outcomes
from hybridroute_serve.routing.artifact.header import ArtifactHeader
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.drift.charts import DriftCharts, DriftState
from hybridroute_serve.routing.embedding import Embedder

__all__ = ["GatesPlan", "ablate_gates"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]

_NO_DATE = date(1970, 1, 1)  # throw-away artifacts; a report must not depend on the day


@dataclass(frozen=True, slots=True)
class GatesPlan:
    """What is learned, and what comes."""

    labels: int = 1_500
    requests: int = 4_000
    new_share: float = 0.2
    """Share of the requests that is of unknown categories."""
    max_risk: float = 0.1
    tighten_max_risk: float = 0.05
    delta: float = 0.1


def ablate_gates(
    outcomes: Outcomes,
    embedder: Embedder,
    *,
    seeds: int,
    plan: GatesPlan | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Return, by set of gates, shares kept and joint regrets over seeds. Raises `DataError` for too few rows."""
    plan = plan or GatesPlan()
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        labelled, traffic, new = _draw(outcomes, plan, rng)
        data = calibrate_outcomes(outcomes.take(labelled), embedder, _NO_DATE, CalibrateOptions(seed=seed))
        scorer = ArtifactScorer.from_bytes(data, embedder)
        scored = score_prompts([scorer], [outcomes.prompts[row] for row in traffic], embedder, progress)[0]
        regret = outcomes.regret[traffic]
        for name, kept in _decide(scorer.header, scored, plan).items():
            mine = found.setdefault(name, {})
            for key, value in _judge(kept, regret, new).items():
                mine.setdefault(key, []).append(value)
    return {
        name: {key: summarise(values) for key, values in numbers.items()} for name, numbers in found.items()
    }


def _draw(outcomes: Outcomes, plan: GatesPlan, rng: np.random.Generator) -> tuple[Rows, Rows, Mask]:
    """Return the labelled rows, the traffic in its order, and which of it is of unknown categories."""
    names, place = np.unique(outcomes.categories, return_inverse=True)
    known = rng.permutation(names.size)[: (names.size + 1) // 2]
    inside = rng.permutation(np.flatnonzero(np.isin(place, known)))
    outside = rng.permutation(np.flatnonzero(~np.isin(place, known)))
    strangers = round(plan.new_share * plan.requests)
    ordinary = plan.requests - strangers
    if inside.size < plan.labels + ordinary or outside.size < strangers:
        raise DataError(
            f"{len(outcomes.prompts)} rows of {names.size} categories are too few for {plan.labels} labels and "
            f"{plan.requests} requests, of which {strangers} are of other categories"
        )
    traffic = np.concatenate([inside[plan.labels : plan.labels + ordinary], outside[:strangers]])
    order = rng.permutation(traffic.size)
    return inside[: plan.labels], traffic[order], order >= ordinary


def _decide(header: ArtifactHeader, scored: ScoredRows, plan: GatesPlan) -> dict[str, Mask]:
    everything = np.ones(scored.scope.size, dtype=np.bool_)
    in_scope = scored.scope >= header.scope.threshold
    confident = _confident(header, scored, plan.max_risk, plan.delta)
    strict = _confident(header, scored, plan.tighten_max_risk, plan.delta)
    alarmed = _alarmed(header, scored)
    tightened = np.where(alarmed, confident & strict, confident)
    return {
        "none": everything,
        "scope": in_scope,
        "confidence": confident,
        "scope, confidence": in_scope & confident,
        "confidence, drift": tightened,
        "scope, confidence, drift": in_scope & tightened,
    }


def _confident(header: ArtifactHeader, scored: ScoredRows, max_risk: float, delta: float) -> Mask:
    threshold = None if header.promise is None else header.promise.threshold_for(max_risk, delta).threshold
    if threshold is None:
        return np.zeros(scored.confidence.size, dtype=np.bool_)
    return np.asarray(scored.confidence >= threshold)


def _alarmed(header: ArtifactHeader, scored: ScoredRows) -> Mask:
    """Tell for each request whether an alarm is in force when it comes."""
    alarmed = np.zeros(scored.scope.size, dtype=np.bool_)
    if header.drift is None:
        return alarmed
    charts, state = DriftCharts(header.drift), DriftState()
    for row in range(alarmed.size):
        alarmed[row] = bool(state.ringing)
        state = charts.observe(
            state,
            scope=float(scored.scope[row]),
            cluster=int(scored.cluster[row]),
            topic=int(scored.topic[row]),
            confidence=float(scored.confidence[row]),
        )
    return alarmed


def _judge(kept: Mask, regret: Floats, new: Mask) -> dict[str, float]:
    return {
        "kept": float(kept.mean()),
        "kept_of_new": float(kept[new].mean()),
        "joint_regret": float((regret * kept).mean()),
        "joint_regret_of_known": float((regret * kept)[~new].mean()),
        "joint_regret_of_new": float((regret * kept)[new].mean()),
    }
