"""`hybridroute evaluate drift` as a function: how soon the charts ring, and how often for nothing.

The base rows are split three ways: the artifact is fitted to one part, its charts' limits are set with the next, and
the replay uses the third, so that neither scores nor limits have seen what they are judged with.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from hybridroute_lab.calibrate import CalibrateOptions, calibrate_labels
from hybridroute_lab.drift.limits import FALSE_ALARMS_PER_REQUEST, REQUESTS, chart_names, steps_of
from hybridroute_lab.drift.replay import Delays, StepRows, count_alarms, measure_delays
from hybridroute_lab.evaluation.drift_baselines import DriftBaselines, fit_drift_baselines
from hybridroute_lab.feature_table import Progress, no_progress
from hybridroute_lab.remembered import remember_slow
from hybridroute_lab.scoring import score_prompts
from hybridroute_lab.tables import DataError, LabelledTexts
from hybridroute_serve.routing.artifact.header import DriftBaseline
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.embedding import Embedder

__all__ = ["DriftPlan", "evaluate_drift"]

_NO_DATE = date(1970, 1, 1)  # throw-away artifacts; a report must not depend on the day
_FRESH_SHARE = 0.25
_LIMITS_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class DriftPlan:
    """How much is replayed."""

    undrifted_requests: int = 10_000_000
    """Simulated requests without drift, for each session length."""
    streams: int = 400
    """Streams that drift, for each rate and session length."""
    horizon: int = 5_000
    """Requests after which a stream that did not ring counts as missed."""
    seed: int = 0
    baselines: bool = True
    """Whether simpler charts replay the same streams, which takes three times as long."""


def evaluate_drift(
    base: LabelledTexts,
    shift: LabelledTexts,
    embedder: Embedder,
    *,
    rates: Sequence[float],
    session_lengths: Sequence[int],
    plan: DriftPlan | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Return false alarms per 100,000 requests by session length, and delays by rate and session length.

    `baselines` has the delays of simpler charts on the same streams, and what was gained: their delay minus ours,
    stream by stream.
    """
    plan = plan or DriftPlan()
    embedder = remember_slow(embedder)
    rng = np.random.default_rng(plan.seed)
    order = rng.permutation(len(base.texts))
    fresh_count = round(_FRESH_SHARE * order.size)
    known, fresh = base.take(np.sort(order[fresh_count:])), base.take(np.sort(order[:fresh_count]))
    options = CalibrateOptions(seed=plan.seed, scope_held_out_share=_LIMITS_SHARE)
    data = calibrate_labels(known, embedder, _NO_DATE, options, progress=progress)
    scorer = ArtifactScorer.from_bytes(data, embedder)
    baseline = scorer.header.drift
    if baseline is None:
        raise DataError(
            f"{len(base.texts)} base rows are too few to set the charts' limits: 1,000 are a beginning"
        )
    undrifted = _steps(scorer, baseline, fresh, embedder, progress)
    drifted = _steps(scorer, baseline, shift, embedder, progress)
    limits = np.array([baseline.limits[chart] for chart in chart_names(baseline)])
    baselines: DriftBaselines = {}
    if plan.baselines:
        progress("baselines' limits", 0, 1)
        baselines = fit_drift_baselines(
            known,
            fresh,
            shift,
            embedder,
            recent=baseline.recent,
            requests=min(REQUESTS, plan.undrifted_requests),
            rng=np.random.default_rng([plan.seed, 1]),
        )
        progress("baselines' limits", 1, 1)
    compared: list[dict[str, Any]] = []
    alarms: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for length in session_lengths:
        streams = 4_000
        steps = max(1, plan.undrifted_requests // streams)
        counted = count_alarms(
            undrifted, limits, session_length=length, streams=streams, steps=steps, rng=rng
        )
        alarms[str(length)] = round(float(counted.any_chart) * 1e5 / (streams * steps), 4)
        rung = _count_baselines(baselines, length, streams, steps, plan.seed)
        progress("undrifted replay", length, max(session_lengths))
        for rate in rates:
            if rate <= 0.0:
                rows.append(
                    {"rate": 0.0, "session_length": length, "false_alarms_per_100000": alarms[str(length)]}
                )
                continue
            before = copy.deepcopy(rng)
            delays = measure_delays(
                undrifted,
                drifted,
                limits,
                rate=rate,
                session_length=length,
                streams=plan.streams,
                horizon=plan.horizon,
                rng=rng,
            )
            rows.append(
                {
                    "rate": rate,
                    "session_length": length,
                    "delay": {"mean": round(delays.mean, 1), "p95": round(delays.p95, 1)},
                    "missed": round(delays.missed, 4),
                }
            )
            for name, other in _replay_baselines(baselines, rate, length, plan, before).items():
                gained = other.by_stream - delays.by_stream
                compared.append(
                    {
                        "name": name,
                        "rate": rate,
                        "session_length": length,
                        "delay": {"mean": round(other.mean, 1), "p95": round(other.p95, 1)},
                        "missed": round(other.missed, 4),
                        "gained": {
                            "mean": round(float(gained.mean()), 1),
                            "std": round(float(gained.std()), 1),
                        },
                        "false_alarms_per_100000": rung[name],
                    }
                )
            progress("drifted replay", length, max(session_lengths))
    return {
        "false_alarms_per_100000": alarms,
        "requests": plan.undrifted_requests,
        "rows": rows,
        "baselines": compared,
        "limits": baseline.limits,
        "base_rows": {"artifact": len(known.texts), "limits": baseline.rows, "fresh": len(fresh.texts)},
        "shift_rows": len(shift.texts),
    }


def _count_baselines(
    baselines: DriftBaselines, length: int, streams: int, steps: int, seed: int
) -> dict[str, float]:
    """Return each baseline's false alarms per 100,000 requests."""
    found = {"random": round(FALSE_ALARMS_PER_REQUEST * 1e5, 4)}
    for name, charts in baselines.items():
        counted = count_alarms(
            charts.undrifted,
            charts.limits,
            session_length=length,
            streams=streams,
            steps=steps,
            rng=np.random.default_rng([seed, length]),
        )
        found[name] = round(float(counted.any_chart) * 1e5 / (streams * steps), 4)
    return found


def _replay_baselines(
    baselines: DriftBaselines, rate: float, length: int, plan: DriftPlan, before: np.random.Generator
) -> dict[str, Delays]:
    """Return what each baseline makes of the streams that `before` draws, and an alarm that rings by chance."""
    if not baselines:
        return {}
    found = {
        name: measure_delays(
            charts.undrifted,
            charts.drifted,
            charts.limits,
            rate=rate,
            session_length=length,
            streams=plan.streams,
            horizon=plan.horizon,
            rng=copy.deepcopy(before),
        )
        for name, charts in baselines.items()
    }
    chance = copy.deepcopy(before).geometric(FALSE_ALARMS_PER_REQUEST, size=plan.streams)
    capped = np.minimum(chance, plan.horizon).astype(np.float64)
    found["random"] = Delays(
        float(capped.mean()),
        float(np.percentile(capped, 95)),
        float((chance > plan.horizon).mean()),
        capped,
    )
    return found


def _steps(
    scorer: ArtifactScorer,
    baseline: DriftBaseline,
    rows: LabelledTexts,
    embedder: Embedder,
    progress: Progress,
) -> StepRows:
    scored = score_prompts([scorer], rows.texts, embedder, progress)[0]
    numbers = np.unique(rows.labels, return_inverse=True)[1].astype(np.intp)
    return steps_of(baseline, scored, numbers)
