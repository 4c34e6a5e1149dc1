"""Connections are given up in time, and what is under way ends on the one that it began on."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from hybridroute_serve.turning_session import TURN_SECONDS, TurningSession
from support.clocks import TurnedClock


@dataclass
class Server:
    url: str = ""
    peers: list[int] = field(default_factory=list)
    """The client's port of each request: one for each connection."""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        made.peers.append(request.transport.get_extra_info("peername")[1])
        return web.Response(text="x" * 100_000)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


async def get(sessions: TurningSession, url: str) -> int:
    async with sessions.borrow() as session, session.get(url) as answer:
        return len(await answer.read())


async def test_a_connection_that_never_rests_is_given_up(server: Server) -> None:
    clock = TurnedClock()
    sessions = TurningSession(aiohttp.ClientSession, monotonic=clock)
    for _ in range(3):
        await get(sessions, server.url)
        clock.now += TURN_SECONDS / 2
    await get(sessions, server.url)
    await sessions.close()
    first, second = server.peers[:2], server.peers[2:]
    assert len(set(first)) == len(set(second)) == 1
    assert set(first) != set(second)


async def test_what_is_under_way_when_it_turns_ends_where_it_began(server: Server) -> None:
    clock, made = TurnedClock(), list[aiohttp.ClientSession]()

    def make() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession())
        return made[-1]

    sessions = TurningSession(make, monotonic=clock)
    async with sessions.borrow() as session, session.get(server.url) as slow:
        clock.now += TURN_SECONDS
        assert await get(sessions, server.url) == 100_000
        assert [each.closed for each in made] == [False, False]
        assert len(await slow.read()) == 100_000
    assert [each.closed for each in made] == [True, False]
    await sessions.close()
    assert all(each.closed for each in made)
