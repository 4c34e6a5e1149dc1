"""One drift state for the fleet: counted once whoever sends it again, durable, and of one artifact."""

from pathlib import Path

import pytest

from hybridroute_api.records import AuditResult, Batch, DecisionRecord
from hybridroute_api.vocabulary import Gate, Outcome, PathName
from hybridroute_serve.keeper.drift import DriftDesk
from hybridroute_serve.keeper.metric_table import DRIFT_ALARM, DRIFT_ALARMS, DRIFT_LEVEL
from hybridroute_serve.keeper.reads import Reads
from hybridroute_serve.keeper.store import Store
from hybridroute_serve.routing.drift.disagreement import BASELINE_COMPARISONS
from support.clocks import TurnedClock
from support.drift import A_BASELINE
from support.policies import a_policy
from support.reports import a_record

_POLICY = a_policy()
_ARTIFACT = "a" * 64
_OTHER = "b" * 64


@pytest.fixture
def watching(store: Store) -> Store:
    store.drift.follow(_ARTIFACT, A_BASELINE)
    return store


def scored(
    number: int, scope: float, *, artifact: str = _ARTIFACT, replica: str = "router-1"
) -> DecisionRecord:
    return a_record(
        f"{replica}-{number}",
        replica=replica,
        scope_score=scope,
        confidence=0.5,
        artifact=artifact,
        cluster=number % 2,
        topic=number,
    )


def audited(number: int, disagreement: float | None, outcome: Outcome = Outcome.OK) -> DecisionRecord:
    result = AuditResult(f"r{number}", 0.05, disagreement)
    return a_record(
        f"r{number}.audit",
        gate=Gate.AUDIT,
        path=PathName.LLM,
        outcome=outcome,
        artifact=_ARTIFACT,
        audit=result,
    )


def drifted(count: int = 20, *, replica: str = "router-1", artifact: str = _ARTIFACT) -> Batch:
    return Batch(records=[scored(n, 0.0, replica=replica, artifact=artifact) for n in range(count)])


def test_replicas_share_one_state(watching: Store) -> None:
    """Three odd requests on each of two replicas ring, which neither would have done alone."""
    for replica in ("router-1", "router-2"):
        assert watching.drift.standing().alarm is None
        watching.apply_batches([drifted(3, replica=replica)], _POLICY)

    assert watching.drift.watch.state.requests == 6
    assert watching.drift.standing().alarm is not None


def test_what_is_sent_again_counts_once(watching: Store) -> None:
    batch = Batch(records=[scored(number, 0.5) for number in range(10)])
    for _ in range(3):
        watching.apply_batches([batch], _POLICY)

    assert watching.drift.watch.state.requests == 10


def test_an_alarm_survives_the_keeper(watching: Store, tmp_path: Path, clock: TurnedClock) -> None:
    watching.apply_batches([drifted()], _POLICY)
    before = watching.drift.standing()
    watching.close()

    again = Store(tmp_path / "keeper.sqlite3", "support", clock)
    again.drift.follow(_ARTIFACT, A_BASELINE)

    assert again.drift.standing() == before
    assert before.alarm is not None
    assert before.void is not None
    assert "scope" in before.void
    again.close()


def test_a_transaction_that_fails_leaves_the_charts_where_they_were(watching: Store) -> None:
    too_large = a_record("bad", received_at=1e400, total_seconds=float("inf"))
    with pytest.raises(OverflowError):
        watching.apply_batches([drifted(), Batch(records=[too_large])], _POLICY)

    assert watching.drift.watch.state.requests == 0


def test_another_artifact_begins_anew_and_the_first_is_not_forgotten(watching: Store) -> None:
    watching.apply_batches([drifted()], _POLICY)

    watching.drift.follow(_OTHER, A_BASELINE)
    assert watching.drift.standing().void is None
    # Requests that were decided by the first one and ended late say nothing of the second.
    watching.apply_batches([drifted(replica="router-2")], _POLICY)
    assert watching.drift.watch.state.requests == 0
    watching.apply_batches([drifted(2, replica="router-3", artifact=_OTHER)], _POLICY)

    watching.drift.follow(_ARTIFACT, A_BASELINE)
    assert watching.drift.standing().void is not None


def test_without_an_artifact_there_is_nothing_to_say(store: Store) -> None:
    store.apply_batches([drifted()], _POLICY)

    assert store.drift.show() is None
    assert store.drift.gauges() == {}
    assert store.drift.standing().void is None


def test_an_artifact_without_a_baseline_is_not_watched(store: Store) -> None:
    store.drift.follow(_ARTIFACT, None)
    store.apply_batches([drifted()], _POLICY)

    assert store.drift.standing().alarm is None
    assert store.drift.show() is not None


def test_state_and_metrics_say_the_evidence(watching: Store, reads: Reads) -> None:
    watching.apply_batches([drifted()], _POLICY)

    shown = watching.drift.show()
    assert shown is not None
    assert shown["alarm"]["charts"] == ("scope",)
    assert shown["evidence"]["scope"] >= 1.0
    gauges = watching.drift.gauges()
    assert gauges[DRIFT_ALARM] == {("support",): 1.0}
    assert gauges[DRIFT_LEVEL]["support", "scope"] >= 1.0
    assert reads.read_totals()[DRIFT_ALARMS.name, ("support", "scope")] == 1


def test_audits_are_compared_and_are_no_requests(watching: Store) -> None:
    for number in range(BASELINE_COMPARISONS):
        watching.apply_batches([Batch(records=[audited(number, 0.05)])], _POLICY)
    assert watching.drift.standing().alarm is None
    watching.apply_batches([Batch(records=[audited(1000 + n, 0.9) for n in range(100)])], _POLICY)

    assert watching.drift.watch.state.requests == 0
    assert "audit" in (watching.drift.standing().void or "")


def test_an_audit_that_the_budget_does_not_bear_makes_the_promise_unknown(watching: Store) -> None:
    watching.apply_batches([Batch(records=[audited(1, None, Outcome.UNAFFORDABLE)])], _POLICY)
    assert "no audit since" in (watching.drift.standing().unknown or "")
    # A copy that failed for another cause says nothing either way.
    watching.apply_batches([Batch(records=[audited(2, None, Outcome.TIMEOUT)])], _POLICY)
    assert watching.drift.standing().unknown is not None

    watching.apply_batches([Batch(records=[audited(3, 0.1)])], _POLICY)

    assert watching.drift.standing().unknown is None


def test_only_so_many_artifacts_are_remembered() -> None:
    desk = DriftDesk("support", None)
    for number in range(12):
        desk.follow(f"{number}", A_BASELINE)
        draft = desk.observe([scored(1, 0.5, artifact=f"{number}")], 0.0, {})  # type: ignore[arg-type]
        assert draft is not None
        desk.accept(draft)

    assert len(desk.observe([scored(2, 0.5, artifact="11")], 0.0, {}).watches) == 8  # type: ignore
