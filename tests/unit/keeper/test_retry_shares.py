"""Retry shares over HTTP: shared out, given back, run out; nothing is minted by a restart or a replaced keeper.

With them goes what replicas have seen of upstreams.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from starlette.applications import Starlette

from hybridroute_api.serving import LlmPolicy
from hybridroute_serve.keeper.calls import AWAY_SECONDS
from hybridroute_serve.keeper.share_renewer import ShareRenewer
from hybridroute_serve.retries.bucket import RetryBucket
from hybridroute_serve.retries.shares import ShareTerms
from hybridroute_serve.retries.sightings import Sighting, UpstreamPlace
from support.budgets import KeeperAsker
from support.clocks import TurnedClock
from support.eventually import eventually
from support.keepers import TOKEN, a_keeper_app, write_live
from support.policies import a_policy, a_retry_policy, an_upstream
from support.serving import free_port, running

_TERMS = ShareTerms()
_PLACE = UpstreamPlace("primary", "http://127.0.0.1:1/v1")
_DOWN = Sighting(_PLACE, is_down=True)


@dataclass
class _News:
    """A replica's view of upstreams, as a test writes it."""

    seen: tuple[Sighting, ...] = ()
    heard: tuple[UpstreamPlace, ...] | None = None
    """None until something was heard."""

    def sightings(self) -> tuple[Sighting, ...]:
        return self.seen

    def hear(self, down: tuple[UpstreamPlace, ...]) -> None:
        self.heard = down


@dataclass
class _Fleet:
    """Replicas with their buckets, on one clock that is the keeper's, too."""

    directory: Path
    clock: TurnedClock
    session: aiohttp.ClientSession
    port: int
    buckets: dict[str, RetryBucket] = field(default_factory=dict)
    renewers: dict[str, ShareRenewer] = field(default_factory=dict)
    news: dict[str, _News] = field(default_factory=dict)

    def app(self) -> Starlette:
        return a_keeper_app(self.directory, self.clock, monotonic=self.clock)

    def join(self, replica: str) -> ShareRenewer:
        bucket = RetryBucket(ratio=1.0, now=self.clock.now)
        url = f"http://127.0.0.1:{self.port}"
        news = self.news[replica] = _News()
        renewer = ShareRenewer(
            self.session, url, TOKEN, bucket, replica, news=news, monotonic=self.clock, sleep=self.sleep
        )
        self.buckets[replica], self.renewers[replica] = bucket, renewer
        return renewer

    async def sleep(self, _: float) -> None:
        """Wait without any time passing on the fleet's clock: nothing comes due."""
        await asyncio.sleep(0.005)

    async def renew_all(self, rounds: int = 1) -> list[float]:
        return [await renewer.renew() for _ in range(rounds) for renewer in self.renewers.values()]

    def caps(self) -> list[float]:
        """What each bucket holds once it is full."""
        for bucket in self.buckets.values():
            for _ in range(200):
                bucket.deposit_success(self.clock.now)
        return [round(bucket.tokens(self.clock.now), 6) for bucket in self.buckets.values()]


@pytest.fixture
async def fleet(tmp_path: Path, clock: TurnedClock) -> AsyncIterator[_Fleet]:
    async with aiohttp.ClientSession() as session:
        yield _Fleet(tmp_path, clock, session, free_port())


async def test_the_budget_is_shared_out_and_a_newcomer_waits_for_its_part(fleet: _Fleet) -> None:
    app = fleet.app()
    async with running(app, fleet.port):
        fleet.join("p1")
        assert await fleet.renew_all() == [pytest.approx(_TERMS.lease_seconds / 3)]
        assert fleet.caps() == [100.0]
        fleet.join("p2")
        assert await fleet.renewers["p2"].renew() == _TERMS.hasten_seconds
        assert fleet.caps() == [100.0, 0.0]
        await fleet.renew_all(rounds=3)
        assert fleet.caps() == [50.0, 50.0]
        shown = (await KeeperAsker(app).state())["retry_budget"]
        assert shown == {"lent": 100.0, "floor_lent_per_second": 1.0, "members": ["p1", "p2"]}
        page = (await KeeperAsker(app).get("/metrics")).body.decode()
        assert 'hybridroute_retry_tokens_lent{route="support"} 100.0' in page
        await fleet.renewers["p2"].stop()
        await fleet.renewers["p1"].renew()
        assert fleet.caps() == [100.0, 0.0]


async def test_an_edit_of_the_live_policy_changes_the_totals(fleet: _Fleet) -> None:
    app = fleet.app()
    async with running(app, fleet.port):
        fleet.join("p1")
        await fleet.renew_all()
        retries = a_retry_policy(burst_tokens=10.0, floor_tokens_per_second=0.0)
        write_live(fleet.directory, a_policy(llm=LlmPolicy(upstreams=(an_upstream(),), retries=retries)))
        await app.state.keeper.live.refresh()
        await app.state.keeper.check_budgets()
        await fleet.renew_all()
        assert fleet.caps() == [10.0]


async def test_without_the_keeper_a_share_runs_out(fleet: _Fleet) -> None:
    async with running(fleet.app(), fleet.port):
        fleet.join("p1")
        await fleet.renew_all()
        assert fleet.caps() == [100.0]
    await fleet.renew_all()
    fleet.clock.now += _TERMS.lease_seconds - 0.5
    assert fleet.caps() == [100.0]
    fleet.clock.now += 0.5
    assert fleet.caps() == [0.0]


async def test_a_restarted_keeper_lends_no_more_than_was_out(fleet: _Fleet) -> None:
    async with running(fleet.app(), fleet.port):
        fleet.join("p1")
        fleet.join("p2")
        await fleet.renew_all(rounds=3)
    app = fleet.app()
    async with running(app, fleet.port):
        fleet.clock.now += AWAY_SECONDS
        fleet.join("p3")
        await fleet.renewers["p3"].renew()
        await fleet.renewers["p1"].renew()
        assert fleet.caps() == [50.0, 50.0, 0.0], "p2 may hold the rest, though it has not said so"
        assert sum(fleet.caps()) <= 100.0
        fleet.clock.now += _TERMS.lease_seconds + _TERMS.margin_seconds
        del fleet.buckets["p2"], fleet.renewers["p2"]
        await fleet.renew_all(rounds=3)
        assert fleet.caps() == [50.0, 50.0]


async def test_a_crash_loop_mints_nothing(fleet: _Fleet) -> None:
    async with running(fleet.app(), fleet.port):
        for life in range(20):
            fleet.join(f"p1-{life}")
            await fleet.renewers[f"p1-{life}"].renew()
        assert sum(fleet.caps()) <= 100.0


async def test_an_overtaken_request_gets_nothing(fleet: _Fleet) -> None:
    app = fleet.app()
    async with app.router.lifespan_context(app):
        ask = KeeperAsker(app)
        assert (await ask.share("p1", 2)).status == 200
        assert (await ask.share("p1", 1)).status == 204


async def test_what_is_lent_is_shown_as_it_runs_out(fleet: _Fleet) -> None:
    app = fleet.app()
    async with running(app, fleet.port):
        fleet.join("p1")
        await fleet.renew_all()
        fleet.clock.now += _TERMS.lease_seconds + _TERMS.margin_seconds
        assert (await KeeperAsker(app).state())["retry_budget"]["members"] == []


async def test_a_new_replica_has_heard_what_is_down_when_it_starts(fleet: _Fleet) -> None:
    async with running(fleet.app(), fleet.port):
        fleet.join("p1")
        fleet.news["p1"].seen = (_DOWN,)
        await fleet.renew_all()
        assert fleet.news["p1"].heard == (), "nobody is told what it has said itself"
        newcomer = fleet.join("p2")
        await newcomer.start()
        try:
            assert fleet.news["p2"].heard == (_PLACE,)
        finally:
            await newcomer.stop()


async def test_news_are_told_at_once_and_not_when_the_share_is_due(fleet: _Fleet) -> None:
    async with running(fleet.app(), fleet.port):
        first, second = fleet.join("p1"), fleet.join("p2")
        await fleet.renew_all(rounds=3)
        await first.start()
        try:
            fleet.news["p1"].seen = (_DOWN,)

            async def told() -> bool:
                await second.renew()
                return fleet.news["p2"].heard == (_PLACE,)

            await eventually(told, 15.0)
        finally:
            await first.stop()
        await second.renew()
        assert fleet.news["p2"].heard == (), "the word of a replica that has left is dropped"


async def test_a_keeper_that_is_away_holds_no_replica_up(fleet: _Fleet) -> None:
    lonely = fleet.join("p1")
    await lonely.start()
    assert fleet.news["p1"].heard is None
    await lonely.stop()
