"""The ledger's store in a ConfigMap: one writer, compare-and-swap, a lost one is not an empty one."""

import pytest

from hybridroute_serve.budgets.accounts import AccountTerms
from hybridroute_serve.budgets.journalled import open_ledger
from hybridroute_serve.budgets.store import (
    FencedError,
    Held,
    StoreExistsError,
    StoreMissingError,
    StoreUnavailableError,
    StoreUnusedError,
)
from hybridroute_serve.keeper.config_map_store import WRITE_SECONDS
from support.clocks import TurnedClock
from support.config_maps import MemoryConfigMap, ledger_store

TERMS = {"route": AccountTerms(1_000, "24h")}


@pytest.fixture
def config_map() -> MemoryConfigMap:
    return MemoryConfigMap({"past": "none"})


async def test_what_is_saved_is_there_for_the_next_writer(config_map: MemoryConfigMap) -> None:
    store = ledger_store(config_map)
    await store.create(b"one")
    held = await store.acquire()
    assert held == Held(1, 0, b"one")
    held = await store.save(held, b"two")
    held = await store.save(held, b"three")
    assert await store.load(1) == held
    assert (await ledger_store(config_map).acquire()).document == b"three"


async def test_a_writer_that_was_replaced_can_neither_save_nor_load(config_map: MemoryConfigMap) -> None:
    old, new = ledger_store(config_map), ledger_store(config_map)
    await old.create(b"one")
    held = await old.acquire()
    newer = await new.acquire()
    with pytest.raises(FencedError):
        await old.save(held, b"stale")
    with pytest.raises(FencedError):
        await old.load(held.epoch)
    assert (await new.load(newer.epoch)).document == b"one"


async def test_a_writer_is_fenced_by_one_that_came_between_its_read_and_its_write(
    config_map: MemoryConfigMap,
) -> None:
    old, new = ledger_store(config_map), ledger_store(config_map)
    await old.create(b"one")
    held = await old.save(await old.acquire(), b"two")
    coming = [new.acquire()]

    def come_between() -> None:
        while coming:
            with pytest.raises(StopIteration):
                coming.pop().send(None)

    config_map.before_patch = come_between
    with pytest.raises(FencedError, match="epoch 2 has replaced 1"):
        await old.save(held, b"stale")
    assert (await new.load(2)).document == b"two"


async def test_what_others_write_beside_the_ledger_stops_nobody(config_map: MemoryConfigMap) -> None:
    store = ledger_store(config_map)
    await store.create(b"one")
    held = await store.acquire()
    config_map.write({"note": "somebody's"})
    assert await store.save(held, b"two") == Held(1, 1, b"two")
    assert (config_map.entries or {})["note"] == "somebody's"


async def test_an_object_that_others_write_all_the_time_is_given_up_on(config_map: MemoryConfigMap) -> None:
    store = ledger_store(config_map)
    await store.create(b"one")
    held = await store.acquire()
    config_map.before_patch = lambda: config_map.write({"note": str(config_map.version)})
    for attempt in (store.save(held, b"two"), store.acquire()):
        with pytest.raises(StoreUnavailableError, match="by others all the time"):
            await attempt


async def test_a_write_that_was_given_up_and_arrives_late_fences_nobody(config_map: MemoryConfigMap) -> None:
    store = ledger_store(config_map)
    await store.create(b"one")
    held = await store.acquire()
    config_map.fails = "after"
    with pytest.raises(StoreUnavailableError):
        await store.save(held, b"two")
    with pytest.raises(StoreUnavailableError, match="version 1 is stored, not 0"):
        await store.save(held, b"three")
    held = await store.load(1)
    assert held == Held(1, 1, b"two")
    assert (await store.save(held, b"three")).version == 2


async def test_a_document_is_not_overwritten_by_creating_it(config_map: MemoryConfigMap) -> None:
    store = ledger_store(config_map)
    await store.create(b"one")
    with pytest.raises(StoreExistsError):
        await store.create(b"zero")
    assert (await store.acquire()).document == b"one"


LOST: list[tuple[str, dict[str, str] | None]] = [
    ("gone", None),
    ("emptied", {}),
    ("made again by the operator", {"past": "unknown"}),
    ("edited by hand", {"epoch": "1", "version": "0", "digest": "0" * 16, "ledger.json": "{}"}),
    ("a number that is none", {"epoch": "x", "version": "0", "digest": "", "ledger.json": "{}"}),
    ("said to be unused beside a ledger", {"past": "none", "ledger.json": "{}"}),
]


@pytest.mark.parametrize("entries", [row[1] for row in LOST], ids=[row[0] for row in LOST])
async def test_a_lost_ledger_is_missing_and_never_unused(entries: dict[str, str] | None) -> None:
    store = ledger_store(MemoryConfigMap(entries))
    for call in (store.acquire, store.peek, lambda: store.load(1)):
        with pytest.raises(StoreMissingError) as error:
            await call()
        assert not isinstance(error.value, StoreUnusedError)


async def test_a_route_that_never_ran_begins_at_zero_and_a_lost_ledger_exhausted(
    config_map: MemoryConfigMap,
) -> None:
    ledger = await open_ledger(ledger_store(config_map), TERMS, 0.0, life="a")
    assert not ledger.state.accounts["route"].past_unknown
    assert "past" not in (config_map.entries or {})
    config_map.entries = {"past": "unknown"}
    ledger = await open_ledger(ledger_store(config_map), TERMS, 0.0, life="b")
    assert ledger.state.accounts["route"].past_unknown


async def test_two_keepers_that_begin_at_once_begin_one_ledger(config_map: MemoryConfigMap) -> None:
    first, second = ledger_store(config_map), ledger_store(config_map)
    other = [open_ledger(second, TERMS, 0.0, life="second")]

    def come_between() -> None:
        while other:
            with pytest.raises(StopIteration):
                other.pop().send(None)

    config_map.before_patch = come_between
    ledger = await open_ledger(first, TERMS, 0.0, life="first")
    assert (ledger.state.life, ledger.epoch) == ("second", 2)


async def test_without_its_config_map_nothing_is_begun() -> None:
    config_map = MemoryConfigMap(None)
    with pytest.raises(StoreUnavailableError, match="does not exist; the operator makes it"):
        await open_ledger(ledger_store(config_map), TERMS, 0.0, life="a")
    assert config_map.entries is None


async def test_one_write_a_second(config_map: MemoryConfigMap) -> None:
    clock = TurnedClock()
    store = ledger_store(config_map, clock)
    await store.create(b"0")
    held = await store.acquire()
    began, patches = clock.now, config_map.patches
    for number in range(10):
        held = await store.save(held, str(number).encode())
    assert config_map.patches - patches == 10
    assert clock.now - began == 10 * WRITE_SECONDS
    clock.now += 60
    await store.turn()
    assert clock.now - began == 10 * WRITE_SECONDS + 60
