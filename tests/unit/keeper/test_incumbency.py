"""A keeper knows when the route's Service has turned to another, and leaves the ledger to that one."""

from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from hybridroute_api.vocabulary import InternalHeader
from hybridroute_serve.budgets.ledger import Claim
from hybridroute_serve.keeper.budget_messages import RESERVATIONS_PATH
from hybridroute_serve.keeper.calls import KeeperCalls, KeeperWaitsError
from hybridroute_serve.keeper.incumbency import PATIENCE_SECONDS, Incumbency, ask_service
from hybridroute_serve.keeper.store import FencedError
from support.asgi_client import AsgiClient
from support.clocks import JumpingClock, TurnedClock
from support.keepers import TOKEN, a_keeper_app


class Service:
    """Says whose keeper it leads to."""

    def __init__(self) -> None:
        self.leads_to: str | None = None
        self.asked = 0

    async def ask(self) -> str | None:
        self.asked += 1
        return self.leads_to


@pytest.fixture
def service() -> Service:
    return Service()


def an_incumbency(service: Service, clock: JumpingClock) -> Incumbency:
    return Incumbency(service.ask, monotonic=clock, sleep=clock.sleep)


async def test_it_has_passed_once_the_service_led_here_and_leads_elsewhere(service: Service) -> None:
    keeper = an_incumbency(service, JumpingClock())
    seen = []
    for said in ("old", "old", "old", None, keeper.name, "new", None, keeper.name, "new", None, "new"):
        service.leads_to = said
        await keeper.look()
        seen.append(keeper.has_passed)
    # A pending gateway's keeper hears of the old one, and one stray answer is no turn.
    assert seen == [False] * 10 + [True]


async def test_a_claim_waits_for_the_service_to_turn(service: Service) -> None:
    clock = JumpingClock()
    keeper = an_incumbency(service, clock)
    service.leads_to = keeper.name
    assert not await keeper.is_elsewhere()
    assert clock.slept == []
    service.leads_to = "old"
    assert await keeper.is_elsewhere()
    assert PATIENCE_SECONDS <= sum(clock.slept) < 2 * PATIENCE_SECONDS


async def test_a_service_that_says_nothing_stands_in_no_keepers_way(service: Service) -> None:
    assert not await an_incumbency(service, JumpingClock()).is_elsewhere()
    assert await ask_service("http://127.0.0.1:1")() is None


async def test_the_keeper_says_who_it_is_and_asks_to_be_replaced(tmp_path: Path, service: Service) -> None:
    app = a_keeper_app(tmp_path, TurnedClock())
    async with app.router.lifespan_context(app):
        keeper, client = app.state.keeper, AsgiClient(app)
        assert (await client.request("GET", "/healthz")).json() == {"status": "ok"}
        keeper.check_health()
        keeper.incumbency = an_incumbency(service, JumpingClock())
        said = (await client.request("GET", "/healthz")).json()
        assert said == {"status": "ok", "keeper": keeper.incumbency.name}
        service.leads_to = keeper.incumbency.name
        await keeper.incumbency.look()
        service.leads_to = "new"
        for _ in range(2):
            keeper.check_health()
            await keeper.incumbency.look()
        with pytest.raises(FencedError):
            keeper.check_health()


async def test_the_ledger_is_left_to_the_keeper_that_the_service_leads_to(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = a_keeper_app(tmp_path, TurnedClock())
    async with app.router.lifespan_context(app):
        keeper, client = app.state.keeper, AsgiClient(app)
        # As in a cluster, where the first claim opens the ledger.
        monkeypatch.setattr(type(keeper.dollars), "waits_for_claims", True)
        keeper.incumbency = an_incumbency(service, JumpingClock())
        headers = {InternalHeader.TOKEN.value: TOKEN}
        claim = msgspec.json.encode(Claim("r1/llm/1", "p1", ("route",), 1_000))
        service.leads_to = "new"
        refused = await client.request("POST", RESERVATIONS_PATH, claim, headers)
        assert (refused.status, refused.json()["error"]["code"]) == (503, "keeper_not_leading")
        service.leads_to = keeper.incumbency.name
        assert (await client.request("POST", RESERVATIONS_PATH, claim, headers)).status == 200


async def test_a_replica_that_is_told_to_wait_does_not_take_the_keeper_for_away() -> None:
    answers = [(503, b'{"error":{"code":"keeper_not_leading"}}'), (200, b"{}")]

    async def answer(_: web.Request) -> web.Response:
        status, body = answers.pop(0)
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_post("/leases", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        calls = KeeperCalls(session, str(server.make_url("")), "token", TurnedClock())
        with pytest.raises(KeeperWaitsError):
            await calls.post("/leases", {})
        assert not calls.is_away
        assert await calls.post("/leases", {}) == b"{}"
