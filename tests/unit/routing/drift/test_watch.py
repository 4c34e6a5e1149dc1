"""The alarm and the promise it voids: they end at different times."""

import msgspec
import pytest

from hybridroute_serve.routing.drift.charts import DriftCharts
from hybridroute_serve.routing.drift.disagreement import BASELINE_COMPARISONS
from hybridroute_serve.routing.drift.watch import (
    AUDIT_CHART,
    DriftWatch,
    Observation,
    Turn,
    show_evidence,
    stop_audit,
    watch_comparison,
    watch_request,
)
from support.drift import A_BASELINE

CHARTS = DriftCharts(A_BASELINE)


def feed(watch: DriftWatch, count: int, *, scope: float) -> tuple[DriftWatch, list[Turn]]:
    turns = []
    for number in range(count):
        observation = Observation(scope, number % 2, number, 0.5)
        watch, turn = watch_request(watch, CHARTS, observation, now=1000.0 + number)
        turns += [turn] if turn is not None else []
    return watch, turns


def test_an_alarm_is_raised_once_and_cleared_once() -> None:
    watch, turns = feed(DriftWatch(), 20, scope=0.0)

    assert turns == [Turn.RAISED]
    assert watch.alarm is not None
    assert watch.alarm.charts == ("scope",)
    assert watch.alarm.evidence["scope"] >= 1.0
    assert watch.alarm.requests <= 5

    watch, turns = feed(watch, 500, scope=0.5)

    assert turns == [Turn.CLEARED]
    assert watch.alarm is None


def test_what_an_alarm_has_voided_stays_void() -> None:
    drifted, _ = feed(DriftWatch(), 20, scope=0.0)
    calm, _ = feed(drifted, 500, scope=0.5)
    again, _ = feed(calm, 20, scope=0.0)

    assert calm.voided_by == drifted.alarm
    assert again.voided_by == drifted.alarm
    assert again.alarms == 2


def test_an_alarm_does_not_flap_around_its_limit() -> None:
    watch, _ = feed(DriftWatch(), 6, scope=0.0)
    turns: list[Turn] = []
    for _ in range(20):
        watch, down = feed(watch, 2, scope=0.5)
        watch, up = feed(watch, 1, scope=0.0)
        turns += down + up

    assert turns == []


def test_answers_that_grow_apart_are_an_alarm_of_their_own() -> None:
    watch, turns = DriftWatch(), []
    for number in range(BASELINE_COMPARISONS + 200):
        far_apart = number >= BASELINE_COMPARISONS and number % 2
        watch, turn = watch_comparison(watch, CHARTS, 1.0 if far_apart else 0.02, now=float(number))
        if turn is not None:
            raised = watch
        turns += [turn] if turn is not None else []

    assert turns == [Turn.RAISED]
    assert watch.alarm is not None
    assert watch.alarm.charts == (AUDIT_CHART,)
    assert watch.alarm.audit == raised.disagreement
    assert show_evidence(watch, CHARTS)[AUDIT_CHART] >= 1.0
    assert msgspec.json.decode(msgspec.json.encode(watch), type=DriftWatch) == watch


@pytest.mark.parametrize("apart_for", [30, 100, 400])
def test_an_alarm_of_the_audit_ends_when_answers_agree_again_and_can_ring_anew(apart_for: int) -> None:
    """However much evidence there was: while answers agree nothing is bet, and it would stay."""
    watch, turns, now = DriftWatch(), [], 0.0
    for pairs, distance in [(BASELINE_COMPARISONS, 0.0), (apart_for, 1.0), (200, 0.0), (apart_for, 1.0)]:
        for _ in range(pairs):
            now += 1.0
            watch, turn = watch_comparison(watch, CHARTS, distance, now)
            turns += [turn] if turn is not None else []
        if distance == 0.0:
            assert watch.alarm is None

    assert turns == [Turn.RAISED, Turn.CLEARED, Turn.RAISED]
    assert watch.disagreement.runs > 1, (
        "the second alarm has a smaller stake, so that all alarms keep the chance"
    )


def test_an_audit_that_is_not_paid_is_said_until_one_is() -> None:
    stopped = stop_audit(stop_audit(DriftWatch(), now=5.0), now=9.0)
    assert stopped.audit_stopped_at == 5.0

    watch, _ = watch_comparison(stopped, None, 0.0, now=12.0)

    assert watch.audit_stopped_at is None


def test_a_watch_survives_json() -> None:
    watch, _ = feed(DriftWatch(), 20, scope=0.0)

    assert msgspec.json.decode(msgspec.json.encode(watch), type=DriftWatch) == watch
