"""The charts one request at a time."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from hybridroute_serve.routing.artifact.header import DriftBaseline
from hybridroute_serve.routing.drift.charts import LEVELS, DriftCharts, DriftState, cluster_steps, rank_steps

BASELINE = DriftBaseline(
    scope_quantiles=LEVELS,
    confidence_quantiles=LEVELS,
    cluster_shares=(0.5, 0.3, 0.2),
    limits={"scope": 5.0, "confidence_low": 5.0, "confidence_high": 5.0, "clusters": 8.0},
    session_length=6,
    recent=2,
    rows=1_000,
)


def feed(
    charts: DriftCharts,
    state: DriftState,
    count: int,
    *,
    scope: float = 0.5,
    confidence: float = 0.5,
    cluster: int = 0,
) -> DriftState:
    for number in range(count):
        state = charts.observe(state, scope=scope, cluster=cluster, topic=number, confidence=confidence)
    return state


def test_usual_traffic_leaves_all_charts_low() -> None:
    rng = np.random.default_rng(0)
    charts, state = DriftCharts(BASELINE), DriftState()
    for number in range(3_000):
        state = charts.observe(
            state,
            scope=float(rng.random()),
            cluster=int(rng.choice(3, p=BASELINE.cluster_shares)),
            topic=number,
            confidence=float(rng.random()),
        )
        assert not state.ringing
    assert state.requests == 3_000


@pytest.mark.parametrize(
    ("odd", "chart"),
    [
        ({"scope": 0.0}, "scope"),
        ({"confidence": 0.0}, "confidence_low"),
        ({"confidence": 1.0}, "confidence_high"),
    ],
)
def test_each_oddity_rings_its_own_chart(odd: dict[str, float], chart: str) -> None:
    charts = DriftCharts(BASELINE)
    state = feed(charts, DriftState(), 10, **odd)  # type: ignore[arg-type]
    assert chart in state.ringing
    assert "scope" in state.ringing if chart == "scope" else "scope" not in state.ringing
    assert charts.evidence(state)[chart] >= 1.0


def test_a_growing_cluster_rings_the_chart_of_clusters() -> None:
    charts = DriftCharts(BASELINE)
    assert feed(charts, DriftState(), 30, cluster=2).ringing == ("clusters",)


def test_an_alarm_rings_until_its_chart_has_fallen_to_half_its_limit() -> None:
    charts = DriftCharts(BASELINE)
    ringing = feed(charts, DriftState(), 4, scope=0.0)
    assert ringing.ringing == ("scope",)
    falling, requests = ringing, 0
    while falling.ringing:
        assert falling.scope >= 2.5
        falling, requests = feed(charts, falling, 1), requests + 1
    assert requests > 5
    assert falling.scope < 2.5


def test_a_chart_never_climbs_so_high_that_it_cannot_come_back() -> None:
    charts = DriftCharts(BASELINE)
    state = feed(charts, DriftState(), 10_000, scope=0.0, cluster=2)
    assert state.scope == 10.0
    assert max(state.clusters) == 16.0


def test_a_topic_that_has_just_been_asked_counts_a_fifth() -> None:
    charts = DriftCharts(BASELINE)
    once = charts.observe(DriftState(), scope=0.0, cluster=0, topic=7, confidence=None)
    twice = charts.observe(once, scope=0.0, cluster=0, topic=7, confidence=None)
    assert twice.scope == pytest.approx(1.2 * once.scope)
    later = feed(charts, once, 2, scope=0.5)
    again = charts.observe(later, scope=0.0, cluster=0, topic=7, confidence=None)
    assert again.scope == pytest.approx(later.scope + once.scope)
    assert len(again.recent) == 2


def test_without_confidence_its_charts_rest() -> None:
    charts = DriftCharts(BASELINE)
    state = charts.observe(DriftState(), scope=0.0, cluster=0, topic=0, confidence=None)
    assert (state.confidence_low, state.confidence_high) == (0.0, 0.0)


def test_the_state_travels_as_json() -> None:
    state = feed(DriftCharts(BASELINE), DriftState(), 5, scope=0.0)
    document = json.loads(json.dumps(asdict(state)))
    back = DriftState(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}
    )
    assert back == state


def test_steps_lower_the_chart_on_average_while_nothing_is_new() -> None:
    steps, widths = rank_steps(), np.diff([0.0, *LEVELS, 1.0])
    assert steps @ widths < -0.02
    assert (np.diff(steps) <= 1e-12).all()
    own, other = cluster_steps(np.array([0.7, 0.3]))
    assert np.array([0.7, 0.3]) @ own + 0.0 > 0.0  # each cluster's own chart rises when it is drawn ...
    assert (np.array([0.7, 0.3]) * own + np.array([0.3, 0.7]) * other < 0).all()  # ... and falls on average
