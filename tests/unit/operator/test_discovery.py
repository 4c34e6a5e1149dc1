"""The operator begins to watch when the kinds are there, in both of the server's lists."""

import asyncio
from typing import Any

import pytest

from hybridroute_operator.cluster import discovery
from hybridroute_operator.cluster.api import KindMissingError
from hybridroute_operator.cluster.discovery import wait_for_kinds
from hybridroute_operator.errors import ApiUnavailableError

KIND = ("hybridroute.dev/v1alpha1", "hybridroutes")
LISTED = {"groups": [{"versions": [{"groupVersion": KIND[0]}]}]}
SERVED = {"resources": [{"name": "hybridroutes/status"}, {"name": "hybridroutes"}]}


class Server:
    """Answers of one round after the other; the last one stays."""

    def __init__(self, *rounds: tuple[Any, Any]) -> None:
        self.rounds = list(rounds)

    async def get(self, path: str, **_: str) -> Any:
        groups, resources = self.rounds[0]
        if path == "/apis":
            return groups
        if len(self.rounds) > 1:
            self.rounds.pop(0)
        if isinstance(resources, Exception):
            raise resources
        return resources


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_LOOK_SECONDS", 0.001)


async def wait(server: Any, seconds: float | None = 5.0, stopping: asyncio.Event | None = None) -> bool:
    return await wait_for_kinds(server, [KIND], stopping or asyncio.Event(), seconds=seconds)


async def test_kinds_that_are_there_are_not_waited_for():
    assert await wait(Server((LISTED, SERVED)))


@pytest.mark.parametrize(
    "before",
    [
        ({"groups": []}, KindMissingError("404")),
        ({"groups": []}, SERVED),
        (LISTED, None),
        (LISTED, {"resources": [{"name": "others"}]}),
        (LISTED, ApiUnavailableError("503")),
    ],
)
async def test_kinds_that_come_are_waited_for(before: tuple[Any, Any]):
    server = Server(before, before, (LISTED, SERVED))
    assert await wait(server)
    assert len(server.rounds) == 1


async def test_nobody_waits_longer_than_asked():
    assert not await wait(Server(({"groups": []}, None)), seconds=0.02)


async def test_nobody_waits_when_told_to_stop():
    stopping = asyncio.Event()
    stopping.set()
    assert not await wait(Server(({"groups": []}, None)), None, stopping)
