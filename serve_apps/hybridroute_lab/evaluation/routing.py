"""`hybridroute evaluate routing` as a function: what a router learned from N labels is worth on all other rows.

Everything is scored with artifacts that went through their bytes and back. Baselines get the same labels and the
same rows. Prompts that occur again between labels and test rows are counted, and the result without them is given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridroute_lab.calibrate import CalibrateOptions, calibrate_outcomes, split_rows
from hybridroute_lab.evaluation.baselines import BASELINES, Sample
from hybridroute_lab.evaluation.guarantee import FrozenRouter, measure_guarantee
from hybridroute_lab.evaluation.metrics import CostQuality, area_under_roc, calibration_error, cost_quality
from hybridroute_lab.evaluation.summary import summarise
from hybridroute_lab.feature_table import Progress, no_progress
from hybridroute_lab.near_duplicates import find_near_duplicates
from hybridroute_lab.remembered import remember_slow
from hybridroute_lab.scoring import ScoredRows, score_prompts, time_decisions
from hybridroute_lab.tables import DataError, Outcomes
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.embedding import Embedder

__all__ = ["RoutingEvaluation", "evaluate_routing"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_TIMED_PROMPTS = 1_000
_NO_DATE = date(1970, 1, 1)  # throw-away artifacts; a report must not depend on the day


@dataclass(frozen=True, slots=True)
class RoutingEvaluation:
    """The report, and what its plots are drawn from."""

    report: dict[str, Any]
    """As `--json` prints it."""
    curves: dict[str, CostQuality]
    """Cost and quality of the first seed, by router."""
    confidence: Floats
    """Confidences of the first seed's test rows."""
    right: Floats
    """1 - regret of those rows."""


@dataclass(frozen=True, slots=True)
class _Split:
    """One seed's artifacts and rows."""

    labels: Rows
    test: Rows
    unseen_by_certified: Rows
    """All rows that the certified artifact has not learned from."""
    full: ArtifactScorer
    certified: ArtifactScorer


def evaluate_routing(
    outcomes: Outcomes,
    embedder: Embedder,
    *,
    labels: int,
    seeds: int,
    clock: Callable[[], float],
    progress: Progress = no_progress,
) -> RoutingEvaluation:
    """Evaluate on random splits. `clock` times decisions, in seconds. Raises `DataError` for too few rows."""
    count = len(outcomes.prompts)
    if count < labels + 100:
        raise DataError(
            f"{count} rows: {labels} labels leave too few to test on; at least {labels + 100} are needed"
        )
    if float((outcomes.strong - outcomes.weak).sum()) <= 0.0:
        raise DataError(
            "the large model is not better than the small one on this data: are the columns swapped?"
        )
    known = remember_slow(embedder)
    splits = [_fit_split(outcomes, known, labels, seed, progress) for seed in range(seeds)]
    scorers = [scorer for split in splits for scorer in (split.full, split.certified)]
    scored = score_prompts(scorers, outcomes.prompts, known, progress)
    pairs = list(zip(splits, scored[0::2], scored[1::2], strict=True))
    first, first_rows, _ = pairs[0]
    routed = [_route(outcomes, split, rows) for split, rows, _ in pairs]
    certified = [_route(outcomes, split, rows) for split, _, rows in pairs]
    curves = {
        name: [
            _rank(name, outcomes, split, rows.vectors, seed) for seed, (split, rows, _) in enumerate(pairs)
        ]
        for name in BASELINES
    }
    right = 1.0 - outcomes.regret
    report: dict[str, Any] = {
        "apgr": summarise([curve.apgr for curve in routed]),
        "cpt50": summarise([curve.cpt(50) for curve in routed], 2),
        "cpt80": summarise([curve.cpt(80) for curve in routed], 2),
        "auroc": summarise(
            [_auroc(rows.confidence[split.test], right[split.test]) for split, rows, _ in pairs]
        ),
        "ece": summarise(
            [calibration_error(rows.confidence[split.test], right[split.test]) for split, rows, _ in pairs]
        ),
        "decision_us": _rounded(
            time_decisions(
                ArtifactScorer(first.full.file, embedder),
                _prompts(outcomes, first.test[:_TIMED_PROMPTS]),
                clock,
            )
        ),
        "certified": {
            "apgr": summarise([curve.apgr for curve in certified]),
            "cpt50": summarise([curve.cpt(50) for curve in certified], 2),
        },
        "guarantee": _guarantee(outcomes, pairs),
        "baselines": {name: _compare(curves[name], routed) for name in BASELINES},
        "near_duplicates": _near_duplicates(outcomes, pairs),
        "data": {
            "rows": count,
            "contaminated_dropped": outcomes.contaminated,
            "labels": labels,
            "seeds": seeds,
            "weak_mean": round(float(outcomes.weak.mean()), 4),
            "strong_mean": round(float(outcomes.strong.mean()), 4),
            "graded": outcomes.graded,
        },
    }
    drawn = {"hybridroute": routed[0], "hybridroute, certified": certified[0]}
    drawn |= {name: curves[name][0] for name in BASELINES}
    return RoutingEvaluation(report, drawn, first_rows.confidence[first.test], right[first.test])


def _fit_split(outcomes: Outcomes, embedder: Embedder, labels: int, seed: int, progress: Progress) -> _Split:
    order = np.random.default_rng(seed).permutation(len(outcomes.prompts))
    chosen, test = order[:labels], order[labels:]
    taken = outcomes.take(chosen)
    full = CalibrateOptions(seed=seed, certify_share=0.0, drift_limits=False)
    halved = CalibrateOptions(seed=seed, certify_share=0.5, drift_limits=False)
    _, kept_back = split_rows(labels, halved)
    made = [
        calibrate_outcomes(taken, embedder, _NO_DATE, options, progress=progress)
        for options in (full, halved)
    ]
    return _Split(
        labels=chosen,
        test=test,
        unseen_by_certified=np.concatenate([chosen[kept_back], test]),
        full=ArtifactScorer.from_bytes(made[0], embedder),
        certified=ArtifactScorer.from_bytes(made[1], embedder),
    )


def _scores(outcomes: Outcomes, rows: Rows) -> tuple[Floats, Floats]:
    return outcomes.weak[rows], outcomes.strong[rows]


def _prompts(outcomes: Outcomes, rows: Rows) -> list[str]:
    return [outcomes.prompts[row] for row in rows]


def _sample(outcomes: Outcomes, rows: Rows, vectors: NDArray[np.float32]) -> Sample:
    return Sample(
        tuple(_prompts(outcomes, rows)),
        tuple(outcomes.categories[row] for row in rows),
        vectors[rows],
        outcomes.strong[rows] - outcomes.weak[rows],
    )


def _rank(
    name: str, outcomes: Outcomes, split: _Split, vectors: NDArray[np.float32], seed: int
) -> CostQuality:
    known = _sample(outcomes, split.labels, vectors)
    asked = _sample(outcomes, split.test, vectors)
    scores = BASELINES[name](known, asked, np.random.default_rng(seed))
    return cost_quality(scores, *_scores(outcomes, split.test))


def _route(outcomes: Outcomes, split: _Split, rows: ScoredRows) -> CostQuality:
    return cost_quality(1.0 - rows.confidence[split.test], *_scores(outcomes, split.test))


def _auroc(confidence: Floats, right: Floats) -> float:
    return area_under_roc(confidence[right > 0.5], confidence[right <= 0.5])


def _compare(baseline: list[CostQuality], routed: list[CostQuality]) -> dict[str, Any]:
    pairs = list(zip(routed, baseline, strict=True))
    return {
        "apgr": summarise([curve.apgr for curve in baseline]),
        "cpt50": summarise([curve.cpt(50) for curve in baseline], 2),
        "apgr_gained": summarise([ours.apgr - theirs.apgr for ours, theirs in pairs]),
        "cpt50_gained": summarise([theirs.cpt(50) - ours.cpt(50) for ours, theirs in pairs], 2),
    }


def _guarantee(
    outcomes: Outcomes, pairs: list[tuple[_Split, ScoredRows, ScoredRows]]
) -> list[dict[str, float]]:
    routers = []
    certify_rows = 0
    for split, _, rows in pairs:
        promise = split.certified.header.promise
        if promise is None:
            continue
        certify_rows = promise.rows
        unseen = split.unseen_by_certified
        thresholds = np.array([point.threshold for point in promise.points])
        routers.append(FrozenRouter(thresholds, rows.confidence[unseen], *_scores(outcomes, unseen)))
    return measure_guarantee(routers, certify_rows, np.random.default_rng(0))


def _near_duplicates(
    outcomes: Outcomes, pairs: list[tuple[_Split, ScoredRows, ScoredRows]]
) -> dict[str, Any]:
    shares = []
    without = []
    for split, rows, _ in pairs:
        similar = find_near_duplicates(rows.vectors[split.test], rows.vectors[split.labels])
        alone = split.test[~similar]
        shares.append(float(similar.mean()))
        without.append(cost_quality(1.0 - rows.confidence[alone], *_scores(outcomes, alone)).apgr)
    return {"share": round(float(np.mean(shares)), 4), "apgr_without": summarise(without)}


def _rounded(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in numbers.items()}
