"""A ledger that two gateways may reach: the one with the traffic keeps it, and one that is lost is exhausted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from hybridroute_serve.budgets.ledger import Claim, Denied, Reserved
from hybridroute_serve.budgets.store import FencedError, StoreUnavailableError
from hybridroute_serve.keeper.budget_terms import ROUTE_ACCOUNT
from hybridroute_serve.keeper.dollars import DollarParts, Dollars
from hybridroute_serve.keeper.ledger_home import ConfigMapLedgerHome
from support.budgets import a_budgeted_policy
from support.clocks import TurnedClock
from support.config_maps import MemoryConfigMap


@dataclass
class Gateways:
    """Keepers of one route, each as in a gateway of its own."""

    config_map: MemoryConfigMap
    clock: TurnedClock = field(default_factory=TurnedClock)

    async def start(self) -> Dollars:
        async def sleep(seconds: float) -> None:
            self.clock.now += seconds

        async def confirm_epoch() -> None:
            return

        async def read_lease_sums(_: Sequence[str]) -> Mapping[str, int]:
            return {}

        dollars = Dollars(
            DollarParts(
                home=ConfigMapLedgerHome(self.config_map, monotonic=self.clock, sleep=sleep),
                clock=lambda: 1_761_400_000.0 + self.clock.now,
                monotonic=self.clock,
                confirm_epoch=confirm_epoch,
                read_lease_sums=read_lease_sums,
            )
        )
        await dollars.make_first()
        await dollars.follow(a_budgeted_policy())
        return dollars

    async def look(self, dollars: Dollars) -> tuple[int, int, bool]:
        """Let the keeper look at its store, and return spent, reserved, and whether the past is unknown."""
        self.clock.now += 10
        await dollars.sweep()
        shown = dollars.standings()[ROUTE_ACCOUNT]
        return shown.settled_nano_usd, shown.reserved_nano_usd, shown.past_unknown


@pytest.fixture
def gateways() -> Gateways:
    return Gateways(MemoryConfigMap({"past": "none"}))


def claim(number: int, nano_usd: int = 1_000) -> Claim:
    return Claim(f"r{number}/llm/1", "p1", (ROUTE_ACCOUNT,), nano_usd)


async def test_starting_writes_nothing_and_the_first_claim_begins(gateways: Gateways) -> None:
    dollars = await gateways.start()
    assert await gateways.look(dollars) == (0, 0, False)
    assert gateways.config_map.entries == {"past": "none"}
    assert await dollars.reserve(claim(1)) == Reserved(1_000)
    assert await gateways.look(dollars) == (0, 1_000, False)


async def test_in_an_upgrade_the_gateway_with_the_traffic_keeps_it(gateways: Gateways) -> None:
    old = await gateways.start()
    await old.reserve(claim(1))
    new = await gateways.start()
    assert await gateways.look(new) == (0, 1_000, False)
    assert await old.reserve(claim(2)) == Reserved(1_000), "the new one has no traffic yet"
    assert await new.reserve(claim(3)) == Reserved(1_000)
    with pytest.raises(FencedError):
        await old.reserve(claim(4))
    assert await gateways.look(new) == (0, 3_000, False)


async def test_a_new_limit_is_shown_before_the_first_claim(gateways: Gateways) -> None:
    first = await gateways.start()
    await first.reserve(claim(1))
    second = await gateways.start()
    await second.follow(a_budgeted_policy(limit_nano_usd=500))
    await gateways.look(second)
    shown = second.standings()[ROUTE_ACCOUNT]
    assert (shown.limit_nano_usd, shown.reserved_nano_usd) == (500, 1_000)
    assert isinstance(await second.reserve(claim(2, 1)), Denied)


async def test_a_lost_ledger_is_exhausted_and_grants_nothing_until_it_is_made_again(
    gateways: Gateways,
) -> None:
    dollars = await gateways.start()
    await dollars.reserve(claim(1))
    gateways.config_map.entries = None
    with pytest.raises(StoreUnavailableError):
        await dollars.reserve(claim(2))
    gateways.config_map.entries = {"past": "unknown"}
    denied = await dollars.reserve(claim(3))
    assert isinstance(denied, Denied)
    assert denied.past_unknown


async def test_an_api_server_that_fails_grants_nothing_and_forgets_nothing(gateways: Gateways) -> None:
    dollars = await gateways.start()
    await dollars.reserve(claim(1))
    for number, when in enumerate(("before", "after"), start=2):
        gateways.config_map.fails = when
        with pytest.raises(StoreUnavailableError):
            await dollars.reserve(claim(number))
    # Nobody knows whether the last one was written; it was, and whoever asks again is told so.
    assert await dollars.reserve(claim(3)) == Reserved(1_000)
    assert await gateways.look(dollars) == (0, 2_000, False)
