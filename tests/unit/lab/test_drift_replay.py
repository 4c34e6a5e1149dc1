"""The replay of many streams is the run time's charts, and its sessions are what they say."""

import numpy as np
import pytest

from hybridroute_lab.drift.limits import chart_names, fit_drift_baseline, steps_of
from hybridroute_lab.drift.replay import (
    SessionRows,
    StepRows,
    count_alarms,
    measure_delays,
    record_excursions,
)
from hybridroute_lab.scoring import ScoredRows
from hybridroute_serve.routing.drift.charts import DriftCharts, DriftState

QUICK = 500_000


def scored(count: int, seed: int, *, low: float = 0.0) -> ScoredRows:
    """Made-up scores: `low` pushes them down."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, 80, count)
    scope = np.clip(rng.beta(5, 2, count) - low, 0.0, 1.0)
    return ScoredRows(
        confidence=np.clip(rng.beta(4, 2, count) - low, 0.0, 1.0),
        scope=scope,
        cluster=topic % 5,
        topic=topic,
        nearest=tuple(str(number) for number in topic),
        vectors=np.zeros((count, 2), dtype=np.float32),
    )


def names_of(rows: ScoredRows) -> tuple[str, ...]:
    return rows.nearest


def test_many_streams_at_once_are_the_charts_one_by_one() -> None:
    rows = scored(600, 0)
    baseline = fit_drift_baseline(rows, names_of(rows), 5, requests=QUICK)
    assert baseline is not None
    steps = steps_of(baseline, rows, rows.topic)
    charts, state = DriftCharts(baseline), DriftState()
    sessions = SessionRows(rows.topic, 6, 1, np.random.default_rng(1))
    again = SessionRows(rows.topic, 6, 1, np.random.default_rng(1))
    from hybridroute_lab.drift.replay import _Walk  # noqa: PLC0415 - the equivalence is the point

    walk = _Walk(steps, 1)
    for _ in range(500):
        drawn, _ = sessions.draw()
        walk.step(steps, drawn)
        row = int(again.draw()[0][0])
        state = charts.observe(
            state,
            scope=float(rows.scope[row]),
            cluster=int(rows.cluster[row]),
            topic=int(rows.topic[row]),
            confidence=float(rows.confidence[row]),
        )
        together = walk.levels()[0]
        assert together == pytest.approx(
            [state.scope, state.confidence_low, state.confidence_high, max(state.clusters)], abs=1e-9
        )


@pytest.mark.parametrize("length", [1, 6])
def test_a_session_keeps_to_its_label_for_its_length(length: int) -> None:
    labels = np.repeat(np.arange(20), 10)
    sessions = SessionRows(labels, length, 50, np.random.default_rng(0))
    current = np.full(50, -1)
    lengths: list[int] = []
    run = np.zeros(50, dtype=int)
    for _ in range(60):
        drawn, begun = sessions.draw()
        kept = ~begun & (current >= 0)
        assert (labels[drawn][kept] == current[kept]).all()
        lengths.extend(run[begun & (run > 0)].tolist())
        run = np.where(begun, 1, run + (current >= 0))
        current = np.where(begun | (current >= 0), labels[drawn], current)
    assert max(lengths) == length


def test_labels_are_drawn_by_their_share() -> None:
    labels = np.repeat([0, 1], [300, 100])
    sessions = SessionRows(labels, 3, 2_000, np.random.default_rng(0))
    drawn = np.concatenate([labels[sessions.draw()[0]] for _ in range(30)])
    assert drawn.mean() == pytest.approx(0.25, abs=0.03)


def _limits_and_steps(session_length: int) -> tuple[np.ndarray, StepRows, StepRows]:
    rows, fresh, new = scored(1_500, 0), scored(1_500, 1), scored(500, 2, low=0.5)
    baseline = fit_drift_baseline(rows, names_of(rows), 5, session_length=session_length, requests=QUICK)
    assert baseline is not None
    limits = np.array([baseline.limits[name] for name in chart_names(baseline)])
    return limits, steps_of(baseline, fresh, fresh.topic), steps_of(baseline, new, new.topic)


def test_limits_keep_false_alarms_rare_on_rows_they_were_not_set_with() -> None:
    limits, undrifted, _ = _limits_and_steps(6)
    rng = np.random.default_rng(0)
    for length in (1, 6):
        alarms = count_alarms(undrifted, limits, session_length=length, streams=1_000, steps=300, rng=rng)
        assert (
            alarms.any_chart <= 6
        )  # 3 expected at the promised rate of 1 per 100,000, a tenth of that aimed at
        assert alarms.any_chart <= alarms.by_chart.sum()


def test_drift_rings_soon_and_sooner_the_more_there_is() -> None:
    limits, undrifted, drifted = _limits_and_steps(6)
    rng = np.random.default_rng(0)
    delays = [
        measure_delays(
            undrifted, drifted, limits, rate=rate, session_length=1, streams=100, horizon=2_000, rng=rng
        )
        for rate in (0.1, 0.3, 1.0)
    ]
    assert delays[0].mean > delays[1].mean > delays[2].mean
    assert delays[1].mean < 150
    assert all(delay.missed == 0.0 for delay in delays)


def test_what_never_rings_counts_with_the_horizon() -> None:
    limits, undrifted, _ = _limits_and_steps(6)
    delay = measure_delays(
        undrifted,
        undrifted,
        limits * 10,
        rate=0.2,
        session_length=1,
        streams=20,
        horizon=50,
        rng=np.random.default_rng(0),
    )
    assert (delay.mean, delay.p95, delay.missed) == (50.0, 50.0, 1.0)


def test_peaks_are_heights_between_two_zeros() -> None:
    """One row that rises by 1.5 and one that falls: every excursion is a run of the first."""
    rows = StepRows(
        ranks=np.array([[1.5], [-100.0]]),
        cluster=np.array([0, 0]),
        topic=np.array([0, 1]),
        own=np.array([-1.0]),
        other=-1.0,
        recent=1,
        labels=np.array([0, 1]),
    )
    found = record_excursions(rows, session_length=3, streams=200, steps=60, rng=np.random.default_rng(0))
    heights = set(np.round(found.peaks[0], 3).tolist())
    assert {1.5 + 0.3 * 2} <= heights  # a session of three: one full step and two of a fifth
    assert not found.peaks[1].size


def test_few_rows_have_no_baseline() -> None:
    rows = scored(50, 0)
    assert fit_drift_baseline(rows, names_of(rows), 5, requests=QUICK) is None


def test_sessions_of_look_alikes_need_higher_limits() -> None:
    single, _, _ = _limits_and_steps(1)
    rows = scored(1_500, 0)
    bursty = ScoredRows(
        rows.confidence, np.sort(rows.scope), rows.cluster, np.sort(rows.topic), rows.nearest, rows.vectors
    )
    names = tuple(str(number) for number in bursty.topic)  # scores of one topic lie together
    baseline = fit_drift_baseline(bursty, names, 5, session_length=6, requests=QUICK)
    assert baseline is not None
    assert baseline.limits["scope"] > single[0]
