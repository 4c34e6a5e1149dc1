"""A whole llm-proxy replica beside a real keeper: it gets its share of retries and its dollars, and gives them back."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hybridroute_api.serving import LivePolicy, LlmPolicy, LlmProxyArgs
from hybridroute_api.vocabulary import ErrorCode, InternalHeader, Outcome
from hybridroute_serve.upstream.replica import LlmProxyReplica
from support.attempts import CHAT
from support.budgets import KeeperAsker, a_budgeted_policy
from support.eventually import eventually
from support.keepers import TOKEN, a_keeper_app, write_live
from support.policies import a_policy, a_retry_policy, an_upstream
from support.serving import running
from support.upstream import ScriptedUpstream, answer_status

LIMIT_NANO_USD = 10_000_000_000
USAGE_USD = 0.00045


def a_live_policy(upstream: ScriptedUpstream, limit_nano_usd: int) -> LivePolicy:
    upstreams = (an_upstream(base_url=upstream.base_url),)
    return a_budgeted_policy(
        limit_nano_usd, llm=LlmPolicy(upstreams=upstreams, retries=a_retry_policy()), window="24h"
    )


def replica_args(directory: Path, keeper_url: str) -> LlmProxyArgs:
    return LlmProxyArgs(
        route="support",
        token_file=str(directory / "token"),
        keeper_url=keeper_url,
        journal_dir=str(directory / "journal"),
    )


@dataclass
class Running:
    """Keeper and replica on real ports."""

    directory: Path
    keeper_url: str
    proxy_url: str
    session: aiohttp.ClientSession
    asked: int = 0

    async def ask(self, **headers: str) -> aiohttp.ClientResponse:
        self.asked += 1
        known: dict[str, str] = {
            InternalHeader.TOKEN: TOKEN,
            InternalHeader.REQUEST_ID: f"hr-{self.asked}",
        }
        async with self.session.post(
            f"{self.proxy_url}/v1/chat/completions", json=CHAT, headers=known | headers
        ) as answer:
            await answer.read()
            return answer

    async def state(self) -> dict[str, Any]:
        async with self.session.get(
            f"{self.keeper_url}/state", headers={InternalHeader.TOKEN.value: TOKEN}
        ) as answer:
            document: dict[str, Any] = await answer.json()
            return document

    async def spends(self, usd: float) -> None:
        """Wait until the keeper shows so much spent, and more at hand to spend."""

        async def shown() -> bool:
            budget = (await self.state())["budget"]
            return float(budget["spent_usd"]) == pytest.approx(usd) and float(budget["reserved_usd"]) > 0

        await eventually(shown, 15.0)


@pytest.fixture
async def replica(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Running]:
    live = a_live_policy(upstream, LIMIT_NANO_USD)
    keeper = a_keeper_app(tmp_path, time.time, live=live, sleep=asyncio.sleep)  # type: ignore[arg-type]
    async with running(keeper) as keeper_url:
        app = await LlmProxyReplica(replica_args(tmp_path, keeper_url), replica="llm-proxy-1").build_app()
        async with aiohttp.ClientSession() as session:
            async with running(app) as proxy_url:
                one = Running(tmp_path, keeper_url, proxy_url, session)

                async def serves() -> bool:
                    return (await one.ask()).status == 200

                await eventually(serves, 15.0)
                yield one
            # Nothing is held by a replica that has stopped.
            state = await one.state()
            assert float(state["budget"]["reserved_usd"]) == 0


async def test_what_attempts_use_is_spent(replica: Running, upstream: ScriptedUpstream) -> None:
    await replica.ask()

    await replica.spends(upstream.attempts * USAGE_USD)


async def test_a_limit_that_is_cut_stops_attempts(replica: Running, upstream: ScriptedUpstream) -> None:
    write_live(replica.directory, a_live_policy(upstream, 1))

    async def refused() -> bool:
        return (await replica.ask()).status == 429

    await eventually(refused, 15.0)
    before = upstream.attempts
    answer = await replica.ask()

    assert answer.headers[InternalHeader.FAILURE] == Outcome.UNAFFORDABLE
    assert (await answer.json())["error"]["code"] == ErrorCode.BUDGET_EXHAUSTED
    assert upstream.attempts == before


async def test_a_share_of_the_retry_budget_arrives(replica: Running, upstream: ScriptedUpstream) -> None:
    async def has_tokens() -> bool:
        upstream.scripts.clear()
        upstream.scripts.append(answer_status(500))
        return (await replica.ask()).status == 200

    await eventually(has_tokens, 15.0)


async def test_heartbeats_tell_of_breakers_and_retries(replica: Running) -> None:
    async def told() -> bool:
        replicas = (await replica.state())["replicas"].get("llm-proxy", [])
        facts = replicas[0]["facts"] if replicas else {}
        return facts.get("upstream.primary") == "closed" and "retry_refusals" in facts

    await eventually(told, 15.0)


async def test_a_new_replica_does_not_find_out_again_that_an_upstream_is_down(
    tmp_path: Path, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = answer_status(500)
    upstreams = (an_upstream(base_url=upstream.base_url), an_upstream("spare", second.base_url))
    # No floor, no burst: nobody can pay for finding out.
    retries = a_retry_policy(floor_tokens_per_second=0.0, burst_tokens=0.0)
    live = a_policy(llm=LlmPolicy(upstreams=upstreams, retries=retries))
    keeper = a_keeper_app(tmp_path, time.time, live=live, sleep=asyncio.sleep)  # type: ignore[arg-type]
    async with running(keeper) as keeper_url, aiohttp.ClientSession() as session:

        async def start(stack: AsyncExitStack, name: str) -> Running:
            app = await LlmProxyReplica(replica_args(tmp_path, keeper_url), replica=name).build_app()
            return Running(tmp_path, keeper_url, await stack.enter_async_context(running(app)), session)

        async with AsyncExitStack() as replicas:
            first = await start(replicas, "llm-proxy-1")

            async def has_opened() -> bool:
                return (await first.ask()).status == 200

            await eventually(has_opened, 15.0)
            found_out = upstream.attempts
            assert found_out >= 1

            sequence = itertools.count(1)

            async def is_known() -> bool:
                answer = await KeeperAsker(keeper).share("asker", next(sequence))
                return bool(answer.json()["down"])

            await eventually(is_known, 15.0)
            newcomer = await start(replicas, "llm-proxy-2")
            answer = await newcomer.ask()

            assert answer.status == 200
            assert answer.headers[InternalHeader.UPSTREAM] == "spare"
            assert upstream.attempts == found_out
