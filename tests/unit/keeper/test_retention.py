"""Records go by age and size, oldest first; costs and metrics stay."""

from collections.abc import Callable

from hybridroute_api.records import Batch
from hybridroute_api.serving import RecordsPolicy
from hybridroute_serve.keeper.accounts import account_costs
from hybridroute_serve.keeper.reads import Reads
from hybridroute_serve.keeper.retention import RESEND_SECONDS, enforce_retention
from hybridroute_serve.keeper.store import Store
from support.clocks import TurnedClock
from support.policies import a_policy
from support.reports import a_record, an_attempt

_POLICY = a_policy()


async def _run(call: Callable[[], int]) -> int:
    return call()


def _fill(store: Store, first: int, count: int, **changes: object) -> None:
    numbers = range(first, first + count)
    records = [
        a_record(f"r{n}", received_at=1000.0 + n, conversation_key=f"c{n}", **changes) for n in numbers
    ]
    store.apply_batches([Batch(records=records, attempts=[an_attempt(f"r{n}") for n in numbers])], _POLICY)


def _ids(reads: Reads) -> list[str]:
    return [r.record.request_id for r in reads.read_latest(10_000, 0.0) if r.record is not None]


async def test_what_is_past_its_age_goes_with_its_attempts(
    store: Store, reads: Reads, clock: TurnedClock
) -> None:
    policy = RecordsPolicy(max_age_seconds=3600.0, max_bytes=1 << 30, prompt_text=False)
    _fill(store, 0, 1200)
    clock.now += 3000
    _fill(store, 1200, 3)
    costs = account_costs(reads.read_totals())
    assert (await enforce_retention(store, policy, _run)).by_age == 0
    clock.now += 601
    assert (await enforce_retention(store, policy, _run)).by_age == 1200
    assert _ids(reads) == ["r1202", "r1201", "r1200"]
    assert reads.read_request("r7") is None
    assert reads.read_conversation("c7") is None
    assert reads.read_conversation("c1200") is not None
    assert account_costs(reads.read_totals()) == costs
    assert store.record_orphans(_POLICY) == 0


async def test_the_oldest_go_while_the_file_is_too_large(
    store: Store, reads: Reads, clock: TurnedClock
) -> None:
    _fill(store, 0, 3000)
    clock.now += RESEND_SECONDS + 1
    used_bytes = store.used_bytes()
    policy = RecordsPolicy(max_age_seconds=1e9, max_bytes=used_bytes // 2, prompt_text=False)
    pruned = await enforce_retention(store, policy, _run)
    assert 1000 <= pruned.by_size <= 2000
    assert store.used_bytes() <= policy.max_bytes
    assert _ids(reads) == [f"r{n}" for n in range(2999, pruned.by_size - 1, -1)]


async def test_what_may_be_sent_again_stays_whatever_its_size(
    store: Store, reads: Reads, clock: TurnedClock
) -> None:
    policy = RecordsPolicy(max_age_seconds=0.001, max_bytes=1, prompt_text=False)
    _fill(store, 0, 10)
    clock.now += RESEND_SECONDS - 1
    await enforce_retention(store, policy, _run)
    assert len(_ids(reads)) == 10
    _fill(store, 0, 10)
    assert account_costs(reads.read_totals())["requests"] == 10
    clock.now += 2
    await enforce_retention(store, policy, _run)
    assert _ids(reads) == []
