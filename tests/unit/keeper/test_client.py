"""The live policy on its way to a replica, over HTTP, and the copy that serves while the keeper is away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest

from hybridroute_api.records import Batch
from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import InternalHeader, PathName
from hybridroute_serve.keeper.client import COPY_NAME, LivePolicySource
from support.clocks import TurnedClock
from support.eventually import eventually
from support.keepers import TOKEN, a_keeper_app, write_live
from support.policies import a_policy
from support.reports import a_record
from support.serving import free_port, running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class _Replica:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        directory: Path,
        *,
        token: str = TOKEN,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.applied: list[LivePolicy] = []
        self.fails = False
        self.source = LivePolicySource(session, url, token, directory / "journal", self._apply, sleep=sleep)

    async def _apply(self, policy: LivePolicy) -> None:
        if self.fails:
            raise RuntimeError("the embedder broke")
        self.applied.append(policy)


async def test_a_policy_is_handed_on_once_and_again_when_it_changed(
    session: aiohttp.ClientSession, tmp_path: Path, clock: TurnedClock
) -> None:
    app = a_keeper_app(tmp_path, clock)
    async with running(app) as url:
        replica = _Replica(session, url + "/", tmp_path)
        await replica.source.poll()
        await replica.source.poll()
        assert replica.applied == [a_policy()]
        changed = a_policy(max_body_bytes=7)
        write_live(tmp_path, changed)
        await app.state.keeper.live.refresh()
        await replica.source.poll()
        assert replica.applied == [a_policy(), changed]
        assert replica.source.version == changed.version


async def test_a_replica_that_starts_while_the_keeper_is_away_serves_by_the_copy(
    session: aiohttp.ClientSession, tmp_path: Path, clock: TurnedClock
) -> None:
    async with running(a_keeper_app(tmp_path, clock)) as url:
        await _Replica(session, url, tmp_path).source.poll()
    replica = _Replica(session, url, tmp_path)
    await replica.source.start()
    assert replica.applied == [a_policy()]
    await replica.source.poll()
    await replica.source.stop()
    assert replica.applied == [a_policy()]


async def test_a_torn_copy_is_no_policy(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / COPY_NAME).write_text(a_policy().model_dump_json()[:-10])
    replica = _Replica(session, f"http://127.0.0.1:{free_port()}", tmp_path)
    await replica.source.start()
    await replica.source.stop()
    assert replica.applied == []


async def test_a_policy_that_could_not_be_applied_is_tried_again(
    session: aiohttp.ClientSession, tmp_path: Path, clock: TurnedClock
) -> None:
    async with running(a_keeper_app(tmp_path, clock)) as url:
        replica = _Replica(session, url, tmp_path)
        replica.fails = True
        with pytest.raises(RuntimeError):
            await replica.source.poll()
        replica.fails = False
        await replica.source.poll()
        assert replica.applied == [a_policy()]


async def test_an_edit_of_the_file_reaches_a_replica_by_itself(
    session: aiohttp.ClientSession, tmp_path: Path, clock: TurnedClock
) -> None:
    async def soon(_: float) -> None:
        await asyncio.sleep(0.001)

    async with running(a_keeper_app(tmp_path, clock, sleep=soon)) as url:
        replica = _Replica(session, url, tmp_path, sleep=soon)
        await replica.source.start()
        for policy in (a_policy(), a_policy(max_body_bytes=7)):
            write_live(tmp_path, policy)

            async def is_applied(policy: LivePolicy = policy) -> bool:
                return replica.applied[-1:] == [policy]

            await eventually(is_applied)
        await replica.source.stop()


async def test_a_wrong_token_gets_no_policy(
    session: aiohttp.ClientSession, tmp_path: Path, clock: TurnedClock
) -> None:
    async with running(a_keeper_app(tmp_path, clock)) as url:
        replica = _Replica(session, url, tmp_path, token="wrong")
        await replica.source.poll()
        assert await replica.source.lookup_conversation("c") is None
    assert replica.applied == []


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read until the client gives up, and answer nothing."""
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_a_conversation_is_looked_up_and_nobody_waits_for_an_absent_keeper(
    session: aiohttp.ClientSession, tmp_path: Path, clock: TurnedClock
) -> None:
    async with running(a_keeper_app(tmp_path, clock)) as url:
        batch = Batch(records=[a_record("r1", path=PathName.LLM, conversation_key="a/b?c=d")])
        headers = {InternalHeader.TOKEN.value: TOKEN}
        async with session.post(
            f"{url}/internal/batch", data=msgspec.json.encode(batch), headers=headers
        ) as answer:
            assert answer.status == 200
        source = _Replica(session, url, tmp_path).source
        assert await source.lookup_conversation("a/b?c=d") is PathName.LLM
        assert await source.lookup_conversation("other") is None
    assert await source.lookup_conversation("a/b?c=d") is None
    async with await asyncio.start_server(_hang, "127.0.0.1", 0) as hangs:
        port = hangs.sockets[0].getsockname()[1]
        hanging = _Replica(session, f"http://127.0.0.1:{port}", tmp_path).source
        assert await hanging.lookup_conversation("a/b?c=d") is None
