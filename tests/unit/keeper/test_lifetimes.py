"""Busy and idle time add up to the lifetimes of replicas, however they end."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.records import Batch, ReplicaHeartbeat
from hybridroute_api.vocabulary import PathName
from hybridroute_serve.keeper.accounts import account_costs
from hybridroute_serve.keeper.lifetimes import ReplicaLife, advance_life, end_life
from hybridroute_serve.keeper.reads import Reads
from hybridroute_serve.keeper.store import Store
from support.clocks import TurnedClock
from support.policies import a_policy
from support.reports import an_attempt

_POLICY = a_policy()
_HOUR = _POLICY.slm.machine_hour_nano_usd


def _beat(at: float, busy_seconds: float = 0.0, *, ended: bool = False, app: str = "slm") -> ReplicaHeartbeat:
    return ReplicaHeartbeat(f"{app}-1", app, started_at=1000.0, at=at, busy_seconds=busy_seconds, ended=ended)


@given(
    steps=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), max_size=30),
    charged_share=st.floats(0, 1),
    tail_seconds=st.floats(0, 5),
)
def test_charged_and_idle_time_add_up_to_the_lifetime(
    steps: list[tuple[float, float]], charged_share: float, tail_seconds: float
) -> None:
    life: ReplicaLife | None = None
    at, busy_seconds, idle_seconds = 1000.0, 0.0, 0.0
    for seconds, busy_part in steps:
        at += seconds
        busy_seconds += seconds * busy_part
        life = advance_life(life, _beat(at, busy_seconds))
        assert life.idle_seconds >= idle_seconds
        idle_seconds = life.idle_seconds
        assert idle_seconds == pytest.approx(at - 1000.0 - busy_seconds)
    if life is None:
        return
    # A killed replica's last requests were never charged.
    life = replace(life, charged_seconds=busy_seconds * charged_share)
    ended = end_life(life, at + tail_seconds)
    assert ended.charged_seconds + ended.idle_seconds == pytest.approx(at + tail_seconds - 1000.0)


def test_heartbeats_that_come_late_or_twice_change_nothing() -> None:
    life = advance_life(None, _beat(1010.0, 4.0))
    assert advance_life(life, _beat(1010.0, 4.0)) == life
    assert advance_life(life, _beat(1006.0, 2.0)) == life


def test_the_dollars_of_a_replica_add_up_to_its_lifetime(store: Store, reads: Reads) -> None:
    store.apply_batches([Batch(heartbeats=[_beat(1000.0)], replica="slm-1")], _POLICY)
    for number in range(1, 5):
        report = an_attempt(
            f"r{number}", path=PathName.SLM, upstream="slm", busy_seconds=20.0, cost_nano_usd=0
        )
        beat = _beat(1000.0 + 30.0 * number, 20.0 * number)
        store.apply_batches([Batch(attempts=[report], heartbeats=[beat], replica="slm-1")], _POLICY)
    store.apply_batches([Batch(heartbeats=[_beat(1120.0, 80.0, ended=True)], replica="slm-1")], _POLICY)
    costs = account_costs(reads.read_totals())["paths"]["slm"]
    assert costs["usd"] == f"{4 * (20 * _HOUR // 3600) / 1e9:.9f}"
    assert float(costs["usd"]) + float(costs["idle_usd"]) == pytest.approx(120 * _HOUR / 3600 / 1e9, abs=1e-8)


def test_a_killed_replicas_lifetime_ends_one_interval_after_its_last_heartbeat(
    store: Store, reads: Reads, clock: TurnedClock
) -> None:
    store.apply_batches([Batch(heartbeats=[_beat(1100.0, 40.0)])], _POLICY)
    assert store.end_silent_replicas(_POLICY) == 0
    clock.now += 29
    assert store.end_silent_replicas(_POLICY) == 0
    clock.now += 2
    assert store.end_silent_replicas(_POLICY) == 1
    assert store.end_silent_replicas(_POLICY) == 0
    # 102 s lived and nothing charged: what was in flight when it died is nobody's.
    assert (
        account_costs(reads.read_totals())["paths"]["slm"]["idle_usd"] == f"{102 * _HOUR // 3600 / 1e9:.9f}"
    )
    assert [replica.ended for replica in reads.read_replicas()] == [True]


def test_a_keeper_that_was_away_waits_for_replicas_to_be_heard(
    store: Store, tmp_path: Path, clock: TurnedClock
) -> None:
    store.apply_batches([Batch(heartbeats=[_beat(1100.0)])], _POLICY)
    clock.now += 3600
    restarted = Store(tmp_path / "keeper.sqlite3", "support", clock)
    assert restarted.end_silent_replicas(_POLICY) == 0
    restarted.apply_batches([Batch(heartbeats=[_beat(4700.0)])], _POLICY)
    clock.now += 29
    assert restarted.end_silent_replicas(_POLICY) == 0
    restarted.close()


def test_a_price_change_prices_what_comes_after_it(store: Store, reads: Reads) -> None:
    dear = a_policy(slm=_POLICY.slm.model_copy(update={"machine_hour_nano_usd": 10 * _HOUR}))
    store.apply_batches([Batch(heartbeats=[_beat(1036.0)])], _POLICY)
    store.apply_batches([Batch(heartbeats=[_beat(1072.0)])], dear)
    assert account_costs(reads.read_totals())["paths"]["slm"]["idle_usd"] == f"{11 * _HOUR // 100 / 1e9:.9f}"


def test_only_slm_replicas_idle_at_the_slms_price(store: Store, reads: Reads) -> None:
    store.apply_batches([Batch(heartbeats=[_beat(2000.0, app="router")])], _POLICY)
    assert account_costs(reads.read_totals())["paths"]["slm"]["idle_usd"] == "0.000000000"
