"""What becomes of the work that the lease lets begin. The election is the library's; here it is won at once."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from hybridroute_operator.cluster import connection


class WonElection:
    """Won at once; lost when the test says so."""

    def __init__(self, config: Any) -> None:
        self._config = config
        self.observed_record = SimpleNamespace(holder_identity="one")

    async def run(self) -> None:
        work = asyncio.create_task(self._config.onstarted_leading())
        await lost.wait()
        work.cancel()
        await self._config.onstopped_leading()


lost: asyncio.Event


@pytest.fixture(autouse=True)
def election(monkeypatch: pytest.MonkeyPatch) -> None:
    global lost  # noqa: PLW0603 - the election is made by the code under test
    lost = asyncio.Event()
    monkeypatch.setattr(connection, "LeaderElection", WonElection)
    monkeypatch.setattr(connection, "_Lease", lambda *_: None)
    monkeypatch.setattr(connection, "Config", lambda _lease, **settings: SimpleNamespace(**settings))


async def lead(work: Any, stopping: asyncio.Event) -> bool:
    client: Any = None
    async with asyncio.timeout(5):
        return await connection.lead(client, "system", "one", work, stopping)


async def test_work_that_fails_fails_the_process():
    async def work() -> None:
        raise KeyError("no such user")

    with pytest.raises(KeyError, match="no such user"):
        await lead(work, asyncio.Event())


async def test_work_that_ends_keeps_the_lease():
    async def work() -> None:
        await asyncio.sleep(0)

    assert await lead(work, asyncio.Event())


async def test_a_lost_lease_ends_the_work():
    ended: list[str] = []

    async def work() -> None:
        try:
            lost.set()
            await asyncio.sleep(60)
        finally:
            ended.append("work")

    assert not await lead(work, asyncio.Event())
    assert ended == ["work"]


async def test_work_is_waited_for_when_told_to_stop():
    stopping = asyncio.Event()
    ended: list[str] = []

    async def work() -> None:
        stopping.set()
        await asyncio.sleep(0.05)
        ended.append("work")

    assert await lead(work, stopping)
    assert ended == ["work"]
