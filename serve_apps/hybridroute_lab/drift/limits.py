"""Sets the drift charts' limits from fresh rows, by block bootstrap, for all charts together.

The rate of false alarms falls exponentially with a chart's limit. It is simulated where it is frequent enough to
count and carried on along that line to the wanted rate. The rows themselves are a sample: the whole is repeated on
resampled rows, and the limit is the mean of those limits plus a few of their standard deviations.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from hybridroute_lab.drift.replay import StepRows, record_excursions
from hybridroute_lab.scoring import ScoredRows
from hybridroute_serve.routing.artifact.header import DriftBaseline
from hybridroute_serve.routing.drift.charts import LEVELS

__all__ = [
    "FALSE_ALARMS_PER_REQUEST",
    "REQUESTS",
    "SESSION_LENGTH",
    "bootstrap_limits",
    "chart_columns",
    "chart_names",
    "fit_drift_baseline",
    "steps_of",
]

Floats = NDArray[np.float64]

SESSION_LENGTH = 6
"""Requests of one session that look alike, which the limits allow for."""

FALSE_ALARMS_PER_REQUEST = 1e-6
"""Of all charts together. A tenth of what is promised, 1 per 100,000: rows that the limits were not set
with differ a little, and the rate is exponential in that little."""

REQUESTS = 3_000_000
"""Simulated requests for each resample."""

_SHARES = {2: (0.8, 0.2), 4: (0.5, 0.2, 0.1, 0.2)}
"""How the charts share that rate, in the order of `chart_names`: scope notices most."""

_RECENT = 6
_MANY_TOPICS = 64  # with fewer, undrifted traffic repeats itself within six requests all the time

_RESAMPLES = 8
_DEVIATIONS = 1.5
_STREAMS = 2_000
_LEAST_ROWS = 100


def chart_columns(baseline: DriftBaseline, scored: ScoredRows) -> list[tuple[Floats, Floats, bool]]:
    """Return scores, baseline quantiles and direction of the charts of ranks that this baseline runs."""
    columns = [(scored.scope, np.array(baseline.scope_quantiles), False)]
    if baseline.confidence_quantiles:
        quantiles = np.array(baseline.confidence_quantiles)
        columns += [(scored.confidence, quantiles, False), (scored.confidence, quantiles, True)]
    return columns


def chart_names(baseline: DriftBaseline) -> tuple[str, ...]:
    """Return the names of the charts, in the order of their columns, the clusters' last."""
    if baseline.confidence_quantiles:
        return ("scope", "confidence_low", "confidence_high", "clusters")
    return ("scope", "clusters")


def steps_of(baseline: DriftBaseline, scored: ScoredRows, labels: NDArray[np.intp]) -> StepRows:
    """Return what each scored row adds to each chart."""
    return StepRows.build(
        chart_columns(baseline, scored),
        cluster=scored.cluster,
        topic=scored.topic,
        shares=np.array(baseline.cluster_shares),
        recent=baseline.recent,
        labels=labels,
    )


def fit_drift_baseline(
    scored: ScoredRows,
    labels: tuple[str, ...] | None,
    clusters: int,
    *,
    seed: int = 0,
    session_length: int = SESSION_LENGTH,
    requests: int = REQUESTS,
) -> DriftBaseline | None:
    """Return the baseline of rows that the artifact has not learned from; None for too few of them.

    Sessions keep to one label; without labels, to one cluster. `requests` are replayed for each resample: fewer
    are quicker, and the line is carried on further.
    """
    count = scored.scope.size
    if count < _LEAST_ROWS:
        return None
    rng = np.random.default_rng(seed)
    numbers = np.unique(labels, return_inverse=True)[1] if labels is not None else scored.cluster
    shares = (np.bincount(scored.cluster, minlength=clusters) + 0.5) / (count + 0.5 * clusters)
    has_confidence = not np.isnan(scored.confidence).any()
    baseline = DriftBaseline(
        scope_quantiles=tuple(np.quantile(scored.scope, LEVELS).round(6).tolist()),
        confidence_quantiles=tuple(np.quantile(scored.confidence, LEVELS).round(6).tolist())
        if has_confidence
        else (),
        cluster_shares=tuple(shares.round(5).tolist()),
        limits={},
        session_length=session_length,
        recent=_RECENT if labels is not None and np.unique(scored.topic).size >= _MANY_TOPICS else 1,
        rows=count,
    )
    names = chart_names(baseline)
    steps = steps_of(baseline, scored, np.asarray(numbers, dtype=np.intp))
    limits = bootstrap_limits(
        steps, _SHARES[len(names)], session_length=session_length, requests=requests, rng=rng
    )
    named = zip(names, limits, strict=True)
    return structs.replace(baseline, limits={name: round(float(limit), 3) for name, limit in named})


def bootstrap_limits(
    steps: StepRows,
    shares: Sequence[float],
    *,
    session_length: int,
    requests: int,
    rng: np.random.Generator,
) -> Floats:
    """Return limits for as many charts as there are shares of `FALSE_ALARMS_PER_REQUEST`, those of ranks first."""
    count = steps.labels.size
    found = np.zeros((_RESAMPLES, len(shares)))
    for resample in range(_RESAMPLES):
        rows = rng.integers(count, size=count)
        excursions = record_excursions(
            _with_dense_labels(steps.take(rows)),
            session_length=session_length,
            streams=_STREAMS,
            steps=max(1, requests // _STREAMS),
            rng=rng,
        )
        found[resample] = [
            _limit(peaks, excursions.requests, FALSE_ALARMS_PER_REQUEST * share)
            for peaks, share in zip(excursions.peaks[: len(shares)], shares, strict=True)
        ]
    limits: Floats = found.mean(axis=0) + _DEVIATIONS * found.std(axis=0)
    return limits


def _with_dense_labels(rows: StepRows) -> StepRows:
    dense = np.unique(rows.labels, return_inverse=True)[1].astype(np.intp)
    return replace(rows, labels=dense)


def _limit(peaks: Floats, requests: int, target: float) -> float:
    """Return the height that excursions exceed `target` times a request, along the line of the logarithm."""
    ordered = np.sort(peaks)[::-1]
    rank = np.arange(1, ordered.size + 1)
    used = (rank >= 20) & (rank <= requests // 5_000)
    if used.sum() < 20:
        return float(ordered[0]) + 10.0 if ordered.size else 10.0
    slope, intercept = np.polyfit(ordered[used], np.log(rank[used] / requests), 1)
    return float((np.log(target) - intercept) / min(slope, -0.05))
