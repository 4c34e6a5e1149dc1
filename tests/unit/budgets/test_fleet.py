"""Four replicas and one budget over HTTP: never more than the limit, nearly all of it, whatever dies."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from hybridroute_api.vocabulary import InternalHeader
from hybridroute_serve.keeper.budget_client import Reservation
from support.budget_fleet import Fleet, a_fleet
from support.budgets import a_budgeted_policy, write_clients
from support.eventually import eventually
from support.keeper_process import KeeperProcess
from support.keepers import TOKEN, keeper_args, write_live
from support.serving import free_port

LIMIT = 1_000_000_000
SPENT_BEFORE = 700_000_000
LARGEST = 5_000_000


async def _budget(url: str) -> tuple[int, int]:
    headers = {InternalHeader.TOKEN.value: TOKEN}
    async with aiohttp.ClientSession() as session, session.get(f"{url}/state", headers=headers) as answer:
        shown = (await answer.json())["budget"]
    spent, reserved = (int(shown[name].replace(".", "")) for name in ("spent_usd", "reserved_usd"))
    return spent, reserved


async def _spend_before(fleet: Fleet) -> None:
    accounts = fleet.replicas[0]
    reservation = await accounts.reserve("before/llm/1", None, SPENT_BEFORE)
    assert isinstance(reservation, Reservation)
    fleet.counted_nano_usd += accounts.settle(reservation, SPENT_BEFORE)
    fleet.billed_nano_usd += SPENT_BEFORE


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_nearly_spent_budget_is_used_up_and_never_overdrawn(tmp_path: Path, seed: int) -> None:
    policy = a_budgeted_policy(LIMIT, "24h")
    write_live(tmp_path, policy)
    keeper_args(tmp_path)
    keeper = KeeperProcess(tmp_path, free_port())
    await keeper.start()
    try:
        async with a_fleet(keeper.url, policy, 4, seed=seed) as fleet:
            await _spend_before(fleet)
            await fleet.run(workers=64, attempts=3, largest_nano_usd=LARGEST)
        assert fleet.outcomes["denied"] > 0, "demand sufficed"
        assert fleet.billed_nano_usd <= fleet.counted_nano_usd <= LIMIT
        assert fleet.counted_nano_usd >= 0.9 * LIMIT
        assert await _budget(keeper.url) == (fleet.counted_nano_usd, 0), "all is given back and accounted for"
    finally:
        await keeper.kill()


async def test_killing_the_keeper_in_the_middle_overdraws_nothing(tmp_path: Path) -> None:
    policy = a_budgeted_policy(LIMIT, "24h")
    write_live(tmp_path, policy)
    keeper_args(tmp_path)
    keeper = KeeperProcess(tmp_path, free_port())
    await keeper.start()
    try:
        async with a_fleet(keeper.url, policy, 4, seed=3) as fleet:
            await _spend_before(fleet)
            spending = asyncio.create_task(fleet.run(workers=64, attempts=3, largest_nano_usd=LARGEST))
            for served in (20, 60):

                async def has_served(served: int = served) -> bool:
                    return fleet.outcomes["served"] >= served

                await eventually(has_served)
                await keeper.kill()
                await keeper.start()
            await spending
            # What was refused while the keeper was away was no demand.
            await fleet.run(workers=64, attempts=3, largest_nano_usd=LARGEST)
        assert fleet.outcomes["keeper_away"] > 0
        assert fleet.outcomes["denied"] > 0
        assert fleet.billed_nano_usd <= fleet.counted_nano_usd <= LIMIT
        assert fleet.counted_nano_usd >= 0.9 * LIMIT
        spent, reserved = await _budget(keeper.url)
        # A lease that a kill let nobody give back stays reserved until it expires.
        assert fleet.counted_nano_usd <= spent + reserved <= LIMIT, (spent, reserved)
    finally:
        await keeper.kill()


async def test_a_clients_budget_binds_before_the_routes(tmp_path: Path) -> None:
    keys_file = write_clients(tmp_path / "clients.yaml", {"a": "0.05", "b": None})
    policy = a_budgeted_policy(LIMIT, "24h", keys_file=keys_file)
    write_live(tmp_path, policy)
    keeper_args(tmp_path)
    keeper = KeeperProcess(tmp_path, free_port())
    await keeper.start()
    try:
        async with a_fleet(keeper.url, policy, 4, seed=4) as fleet:
            for _ in range(4):
                await asyncio.gather(*(fleet.attempt(number % 4, 1_000_000, "a") for number in range(40)))
            assert 0.9 * 50_000_000 <= fleet.counted_nano_usd <= 50_000_000
            assert fleet.outcomes["denied"] > 0
            denied = fleet.outcomes["denied"]
            await asyncio.gather(*(fleet.attempt(number % 4, 1_000_000, "b") for number in range(150)))
            assert fleet.outcomes["denied"] == denied
        assert await _budget(keeper.url) == (fleet.counted_nano_usd, 0)
    finally:
        await keeper.kill()
