"""Answers leave after the save, and what is not known to be saved is read again."""

import pytest

from hybridroute_serve.budgets.accounts import AccountTerms
from hybridroute_serve.budgets.journalled import (
    JournalledLedger,
    Operation,
    create_ledger,
    decode_ledger,
    encode_ledger,
    open_ledger,
)
from hybridroute_serve.budgets.ledger import Claim, Denied, Reserved, reserve, standing
from hybridroute_serve.budgets.store import FencedError
from support.budget_world import MemoryStore, StoreTroubleError

NOON = 1_750_000_000.0
TERMS = {"route": AccountTerms(100, "month")}


def reserving(nano_usd: int, attempt_id: str) -> Operation:
    return lambda state: reserve(state, Claim(attempt_id, "r1", ("route",), nano_usd), NOON)


async def opened(store: MemoryStore) -> JournalledLedger:
    await create_ledger(store, TERMS, NOON, life="life")
    return await open_ledger(store, TERMS, NOON, life="unused")


async def test_a_group_is_stored_by_one_save_before_its_answers() -> None:
    store = MemoryStore()
    ledger = await opened(store)
    version = store.read().version
    answers = await ledger.commit([reserving(60, "a"), reserving(60, "b"), reserving(40, "c")])
    assert answers[0] == Reserved(60)
    assert isinstance(answers[1], Denied)
    assert answers[2] == Reserved(40)
    assert store.read().version == version + 1
    assert decode_ledger(store.read().document) == ledger.state


async def test_what_changes_nothing_is_not_saved() -> None:
    store = MemoryStore()
    ledger = await opened(store)
    before = store.read()
    await ledger.commit([lambda state: (state, standing(state, "route", NOON))])
    assert store.read() == before


@pytest.mark.parametrize(("fails", "reserved"), [("before", 0), ("after", 60)])
async def test_after_a_failed_save_the_truth_is_read_from_the_store(fails: str, reserved: int) -> None:
    store = MemoryStore()
    ledger = await opened(store)
    store.fails = fails
    with pytest.raises(StoreTroubleError):
        await ledger.commit([reserving(60, "a")])
    answers = await ledger.commit([lambda state: (state, standing(state, "route", NOON))])
    assert answers[0].reserved_nano_usd == reserved
    assert await ledger.commit([reserving(60, "a")]) == [Reserved(60)]


async def test_a_keeper_that_was_replaced_grants_nothing_ever_again() -> None:
    store = MemoryStore()
    old = await opened(store)
    new = await open_ledger(store, TERMS, NOON, life="unused")
    for attempt_id in ("a", "b"):
        with pytest.raises(FencedError):
            await old.commit([reserving(1, attempt_id)])
    with pytest.raises(FencedError):
        await old.commit([])
    assert await new.commit([reserving(100, "c")]) == [Reserved(100)]
    assert new.epoch == old.epoch + 1


async def test_opening_follows_the_policy_and_keeps_the_past() -> None:
    store = MemoryStore()
    ledger = await opened(store)
    await ledger.commit([reserving(60, "a")])
    again = await open_ledger(store, {"route": AccountTerms(70, "month")}, NOON, life="unused")
    assert isinstance((await again.commit([reserving(11, "b")]))[0], Denied)


async def test_a_missing_store_opens_exhausted_and_stays_so_over_restarts() -> None:
    store = MemoryStore()
    for _ in range(2):
        ledger = await open_ledger(store, TERMS, NOON, life="second")
        answer = (await ledger.commit([reserving(1, "a")]))[0]
        assert isinstance(answer, Denied)
        assert answer.past_unknown


async def test_a_document_reads_back_as_it_was() -> None:
    ledger = await opened(MemoryStore())
    await ledger.commit([reserving(60, "a")])
    assert decode_ledger(encode_ledger(ledger.state)) == ledger.state
