"""Totals equal the records, whatever comes twice and in whatever order; a newer keeper fences the older."""

import sqlite3
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hybridroute_api.records import (
    AttemptReport,
    Batch,
    CascadeCheck,
    DecisionRecord,
    ReplicaHeartbeat,
    TokenUsage,
)
from hybridroute_api.serving import LlmPolicy, TokenPrices, UpstreamTimeouts
from hybridroute_api.vocabulary import CascadeVerdict, Gate, Outcome, PathName, UsageSource
from hybridroute_serve.costs.pricing import price_all_llm, price_report
from hybridroute_serve.keeper.metric_table import ALL_LLM, BATCHES, COST, DUPLICATES, REQUESTS, SLM_IDLE
from hybridroute_serve.keeper.reads import Reads
from hybridroute_serve.keeper.schema import SchemaError
from hybridroute_serve.keeper.store import FencedError, Store
from hybridroute_serve.keeper.tally import Totals, tally_attempt, tally_record
from support.clocks import TurnedClock
from support.policies import a_policy, a_retry_policy, an_upstream
from support.reports import a_record, an_attempt

_POLICY = a_policy()
_OWN = {BATCHES.name, DUPLICATES.name, SLM_IDLE.name}

_seconds = st.floats(min_value=0, max_value=1000)
_tokens = st.integers(min_value=0, max_value=10**6)
_records = st.builds(
    replace,
    st.just(a_record("?")),
    request_id=st.integers(min_value=0, max_value=12).map("r{}".format),
    path=st.none() | st.sampled_from(PathName),
    gate=st.none() | st.sampled_from(Gate),
    outcome=st.sampled_from(Outcome),
    total_seconds=_seconds,
    first_byte_seconds=st.none() | _seconds,
)


@st.composite
def _attempts(draw: st.DrawFn) -> AttemptReport:
    request_id = f"r{draw(st.integers(min_value=0, max_value=12))}"
    path = draw(st.sampled_from(PathName))
    return an_attempt(
        request_id,
        attempt_id=f"{request_id}/{path}/{draw(st.integers(min_value=1, max_value=3))}",
        path=path,
        outcome=draw(st.sampled_from(Outcome)),
        usage=draw(
            st.builds(TokenUsage, _tokens, _tokens, _tokens, _tokens, source=st.sampled_from(UsageSource))
        ),
        busy_seconds=draw(_seconds),
        cost_nano_usd=draw(st.integers(min_value=0, max_value=10**12)),
    )


_batches = st.builds(
    Batch, records=st.lists(_records, max_size=4), attempts=st.lists(_attempts(), max_size=4)
)


def _expected(batches: list[Batch]) -> Totals:
    """What the first report of each id adds up to."""
    records: dict[str, DecisionRecord] = {}
    attempts: dict[str, AttemptReport] = {}
    for batch in batches:
        for record in batch.records:
            records.setdefault(record.request_id, record)
        for attempt in batch.attempts:
            attempts.setdefault(attempt.attempt_id, price_report(attempt, _POLICY))
    totals: Totals = Counter()
    for record in records.values():
        tally_record(record, totals)
    for attempt in attempts.values():
        tally_attempt(attempt, price_all_llm(attempt, _POLICY.llm.primary.prices), totals)
    return totals


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(_batches, max_size=8),
    again=st.lists(st.integers(min_value=0, max_value=7), max_size=8),
    cuts=st.lists(st.integers(min_value=0, max_value=15), max_size=5),
    restart_at=st.integers(min_value=0, max_value=8),
)
def test_totals_equal_the_sums_over_records_for_any_interleaving_and_any_replay(
    batches: list[Batch], again: list[int], cuts: list[int], restart_at: int
) -> None:
    sent = batches + [batches[index] for index in again if index < len(batches)]
    edges = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    groups = [sent[start:end] for start, end in pairwise(edges)]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "keeper.sqlite3"
        store = Store(path, "support", lambda: 1.0)
        for index, group in enumerate(groups):
            if index == restart_at:
                store.close()
                store = Store(path, "support", lambda: 1.0)
            store.apply_batches(group, _POLICY)
        reads = Reads(path)
        totals = reads.read_totals()
        stored = reads.read_latest(1000, 0.0)
        reads.close()
        store.close()
    shown = {key: value for key, value in totals.items() if key[0] not in _OWN and value}
    assert shown == {key: value for key, value in _expected(sent).items() if value}
    assert totals.get((BATCHES.name, ("support",)), 0) == len(sent)
    duplicates = sum(value for (name, _), value in totals.items() if name == DUPLICATES.name)
    reports = sum(len(batch.records) + len(batch.attempts) for batch in sent)
    ids = {r.request_id for b in sent for r in b.records} | {a.attempt_id for b in sent for a in b.attempts}
    assert duplicates == reports - len(ids)
    assert len(stored) == len({r.request_id for b in sent for r in b.records})


def test_a_request_costs_the_sum_over_its_attempts(store: Store, reads: Reads) -> None:
    attempts = [
        an_attempt("r1", 1, outcome=Outcome.TIMEOUT, cost_nano_usd=7),
        an_attempt("r1", 2, cost_nano_usd=11),
    ]
    store.apply_batches([Batch(records=[a_record("r1")]), Batch(attempts=attempts)], _POLICY)
    stored = reads.read_request("r1")
    assert stored is not None
    assert stored.cost_nano_usd == 18
    assert reads.read_totals()[COST.name, ("support", "llm", "big", "confidence")] == 18


def test_an_slm_attempt_is_priced_by_its_busy_share(store: Store, reads: Reads) -> None:
    report = an_attempt("r1", path=PathName.SLM, upstream="slm", busy_seconds=36.0, cost_nano_usd=0)
    store.apply_batches([Batch(attempts=[report])], _POLICY)
    stored = reads.read_request("r1")
    assert stored is not None
    assert stored.record is None
    assert stored.attempts[0].report.cost_nano_usd == _POLICY.slm.machine_hour_nano_usd // 100


def test_a_lost_llm_attempt_is_priced_by_its_estimated_prompt(store: Store, reads: Reads) -> None:
    lost = an_attempt(
        "r1",
        upstream="second",
        outcome=Outcome.LOST,
        usage=TokenUsage(prompt_tokens=1000, source=UsageSource.ESTIMATED),
        cost_nano_usd=0,
    )
    prices = TokenPrices(input_nano_usd_per_million=10**9, output_nano_usd_per_million=0)
    policy = a_policy(
        llm=LlmPolicy(
            upstreams=(an_upstream(), an_upstream("second", prices=prices)), retries=a_retry_policy()
        )
    )
    store.apply_batches([Batch(attempts=[lost])], policy)
    stored = reads.read_request("r1")
    assert stored is not None
    assert stored.attempts[0].report.cost_nano_usd == 10**6
    assert reads.read_totals()[ALL_LLM.name, ("support",)] == 0


def test_an_attempt_whose_record_never_comes_gets_a_lost_one_after_fifteen_minutes(
    store: Store, reads: Reads, clock: TurnedClock
) -> None:
    store.apply_batches(
        [
            Batch(
                records=[a_record("whole")],
                attempts=[an_attempt("whole"), an_attempt("r1"), an_attempt("r1", 2)],
            )
        ],
        _POLICY,
    )
    clock.now += 899
    assert store.record_orphans(_POLICY) == 0
    clock.now += 2
    assert store.record_orphans(_POLICY) == 1
    assert store.record_orphans(_POLICY) == 0
    stored = reads.read_request("r1")
    assert stored is not None
    assert stored.record is not None
    assert (stored.record.outcome, stored.record.status, stored.record.gate) == (
        Outcome.LOST,
        500,
        Gate.CONFIDENCE,
    )
    assert reads.read_totals()[REQUESTS.name, ("support", "llm", "confidence", "lost")] == 1
    store.apply_batches([Batch(records=[a_record("r1")])], _POLICY)
    assert len(reads.read_latest(10, 0.0)) == 2


def test_a_request_that_may_still_go_on_is_not_given_up(store: Store, clock: TurnedClock) -> None:
    """Its first attempts have timed out, and the tenth answers after 20 minutes."""
    timeouts = UpstreamTimeouts(connect_seconds=2.0, first_byte_seconds=20.0, total_seconds=120.0)
    retries = a_retry_policy(max_attempts=10, retry_timeouts=True)
    patient = a_policy(llm=LlmPolicy(upstreams=(an_upstream(timeouts=timeouts),), retries=retries))
    store.apply_batches([Batch(attempts=[an_attempt("r1")])], patient)
    clock.now += 1200
    assert store.record_orphans(patient) == 0
    clock.now += 1201
    assert store.record_orphans(patient) == 1


def test_a_record_that_comes_after_its_attempts_leaves_no_orphan(store: Store, clock: TurnedClock) -> None:
    store.apply_batches([Batch(attempts=[an_attempt("r1")])], _POLICY)
    store.apply_batches([Batch(records=[a_record("r1")])], _POLICY)
    clock.now += 10_000
    assert store.record_orphans(_POLICY) == 0


def test_a_conversation_is_found_by_its_latest_path(store: Store, reads: Reads) -> None:
    for number, path in enumerate([PathName.SLM, PathName.LLM]):
        store.apply_batches(
            [Batch(records=[a_record(f"r{number}", path=path, conversation_key="c/1")])], _POLICY
        )
    assert reads.read_conversation("c/1") is PathName.LLM
    assert reads.read_conversation("c/2") is None


def test_a_newer_keeper_makes_the_older_one_fail_and_write_nothing(
    store: Store, reads: Reads, tmp_path: Path, clock: TurnedClock
) -> None:
    newer = Store(tmp_path / "keeper.sqlite3", "support", clock)
    assert newer.epoch == store.epoch + 1
    with pytest.raises(FencedError, match="epoch 1 was superseded by epoch 2"):
        store.apply_batches([Batch(records=[a_record("old")])], _POLICY)
    with pytest.raises(FencedError):
        store.save_policy(_POLICY)
    newer.apply_batches([Batch(records=[a_record("new")])], _POLICY)
    assert [r.record.request_id for r in reads.read_latest(10, 0.0) if r.record] == ["new"]
    newer.close()


def test_a_batch_that_cannot_be_stored_leaves_nothing_of_its_transaction(store: Store, reads: Reads) -> None:
    too_large = an_attempt("r2", cost_nano_usd=2**70)
    with pytest.raises(OverflowError):
        store.apply_batches([Batch(records=[a_record("r1")]), Batch(attempts=[too_large])], _POLICY)
    assert reads.read_totals() == {}
    store.apply_batches([Batch(records=[a_record("r1")])], _POLICY)
    assert len(reads.read_latest(10, 0.0)) == 1


def test_the_last_good_policy_survives_a_restart(store: Store, tmp_path: Path, clock: TurnedClock) -> None:
    assert store.load_policy() is None
    store.save_policy(_POLICY)
    again = Store(tmp_path / "keeper.sqlite3", "support", clock)
    assert again.load_policy() == _POLICY
    again.close()


def test_a_policy_from_before_timeouts_could_be_retried_is_still_good(store: Store, tmp_path: Path) -> None:
    store.save_policy(_POLICY)
    with sqlite3.connect(tmp_path / "keeper.sqlite3") as connection:
        changed = connection.execute(
            "UPDATE meta SET value = json_remove(value, '$.llm.retries.retry_timeouts') WHERE name = 'live_policy'"
            " AND json_type(value, '$.llm.retries.retry_timeouts') IS NOT NULL"
        )
    connection.close()
    assert changed.rowcount == 1
    assert store.load_policy() == _POLICY


def test_a_file_of_another_schema_is_refused(store: Store, tmp_path: Path, clock: TurnedClock) -> None:
    store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaError, match="has schema 99"):
        Store(tmp_path / "keeper.sqlite3", "support", clock)


def test_a_file_of_the_first_schema_is_brought_up_and_keeps_what_it_has(
    store: Store, tmp_path: Path, clock: TurnedClock
) -> None:
    store.apply_batches([Batch(records=[a_record("r1")])], _POLICY)
    store._connection.execute("DROP TABLE lease_sums")
    store._connection.execute("PRAGMA user_version = 1")
    store.close()
    again = Store(tmp_path / "keeper.sqlite3", "support", clock)
    again.apply_batches(
        [Batch(attempts=[an_attempt("r1", settled_nano_usd=7, lease_ids=("L.1", "L.2"))])], _POLICY
    )
    assert again.read_lease_sums(["L.1", "L.2", "L.3"]) == {"L.1": 7, "L.2": 7}
    again.close()
    reads = Reads(tmp_path / "keeper.sqlite3")
    assert reads.read_request("r1") is not None
    reads.close()


def test_journal_errors_are_counted_by_how_much_they_grew(store: Store, reads: Reads) -> None:
    for at, errors in [(2.0, "3"), (4.0, "3"), (6.0, "5")]:
        beat = ReplicaHeartbeat("router-1", "router", 0.0, at, facts={"journal_errors": errors})
        store.apply_batches([Batch(heartbeats=[beat])], _POLICY)
    assert reads.read_totals()["hybridroute_keeper_journal_errors_total", ("support", "router")] == 5


@pytest.mark.parametrize("record_first", [True, False])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("path", "verdict", "stream", "counted"),
    [
        (PathName.SLM, CascadeVerdict.PASSED, False, [1]),
        (PathName.SLM, CascadeVerdict.CAPPED, True, [1]),
        (PathName.SLM, CascadeVerdict.UNSCORED, True, [1]),
        (PathName.LLM, CascadeVerdict.ESCALATED, False, ["llm"]),
        (PathName.LLM, CascadeVerdict.ESCALATED, True, ["llm"]),
        # The LLM failed: a whole answer was at hand, a stream was asked for again.
        (PathName.SLM, CascadeVerdict.ESCALATED, False, [1]),
        (PathName.SLM, CascadeVerdict.ESCALATED, True, [2]),
    ],
)
def test_the_llm_alone_would_have_answered_once(
    store: Store,
    reads: Reads,
    *,
    record_first: bool,
    together: bool,
    path: PathName,
    verdict: CascadeVerdict,
    stream: bool,
    counted: list[int | str],
) -> None:
    record = a_record("r", path=path, stream=stream, cascade=CascadeCheck(verdict, 0.6, 0.5, 16))
    attempts: dict[int | str, AttemptReport] = {
        1: an_attempt("r", attempt_id="r/slm/1", path=PathName.SLM, upstream="slm", on_trial=True)
    }
    if 2 in counted:
        attempts[2] = an_attempt("r", attempt_id="r/slm/2", path=PathName.SLM, upstream="slm")
    if verdict is CascadeVerdict.ESCALATED:
        outcome = Outcome.OK if path is PathName.LLM else Outcome.UPSTREAM_ERROR
        attempts["llm"] = an_attempt("r", outcome=outcome)
    reports = list(attempts.values())
    batches = [Batch(records=[record]), Batch(attempts=reports)]
    if not record_first:
        batches.reverse()
    if together:
        batches = [Batch(records=[record], attempts=reports)]
    for batch in [*batches, *batches]:
        store.apply_batches([batch], _POLICY)
    wanted = sum(price_all_llm(attempts[name], _POLICY.llm.primary.prices) for name in counted)
    assert wanted > 0
    assert reads.read_totals()[ALL_LLM.name, ("support",)] == wanted
    found = reads.read_request("r")
    assert found is not None
    assert sum(attempt.all_llm_nano_usd for attempt in found.attempts) == wanted
