"""Providers that are down: who notices, what it costs in attempts, and how soon it is over, on a running route."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from serve.conftest import FAST
from support.live_route import REMOTE_PROMPT, LiveRoute
from support.routes import merged
from support.upstream import ScriptedUpstream, answer_json, answer_status, chat_answer, running_upstream

ANSWER = answer_json(chat_answer())
BURST = 5
FLOOR_PER_SECOND = 1
LONGEST_REQUEST_SECONDS = 6.0
"""The upstream's total timeout: how long after the outage's end an attempt may still be caused by it."""
SMALL_BURST = merged(
    FAST,
    {"spec": {"llm": {"retryBudget": {"burst": BURST, "minPerSecond": str(FLOOR_PER_SECOND)}}}},
)


def with_secondary(secondary: ScriptedUpstream) -> dict[str, Any]:
    """Return changes that put another provider behind the first, and tokens enough to find out about that one."""
    other = {
        "name": "secondary",
        "baseURL": secondary.base_url,
        "model": "other",
        "pricing": {"inputPerMillionTokensUSD": "1", "outputPerMillionTokensUSD": "2"},
        "timeouts": FAST["spec"]["llm"]["upstreams"][0]["timeouts"],
    }
    return merged(FAST, {"spec": {"llm": {"upstreams": [{}, other], "retryBudget": {"minPerSecond": "20"}}}})


async def facts(route: LiveRoute) -> dict[str, str]:
    """Return what the llm-proxy's replica says of its upstreams, as `hybridroute status` has it."""
    status = await route.json("status")
    alive = [one for one in status["keeper"]["replicas"]["llm-proxy"] if one["alive"]]
    found: dict[str, str] = alive[-1]["facts"]
    return found


async def wait_for_tokens(route: LiveRoute, *, least: float, most: float) -> None:
    """Wait until the replica's share of the retry budget is what the live policy makes it."""

    async def held() -> bool:
        return least <= float((await facts(route))["retry_tokens"]) <= most

    await route.until(held)


def allowed_attempts(requests: int, seconds: float) -> float:
    """Return the most attempts that so many requests may cause in a full outage of that length."""
    return requests + BURST + FLOOR_PER_SECOND * (seconds + LONGEST_REQUEST_SECONDS)


@asynccontextmanager
async def outage(route: LiveRoute, provider: ScriptedUpstream) -> AsyncIterator[None]:
    """A small retry budget, full, and a provider that fails every attempt; afterwards all is well again."""
    provider.default = ANSWER
    await route.change(SMALL_BURST)
    try:
        await wait_for_tokens(route, least=BURST - 1, most=BURST)
        provider.requests.clear()
        provider.default = answer_status(500)
        yield
        provider.default = ANSWER

        async def answers_again() -> bool:
            answer = await route.chat(REMOTE_PROMPT)
            await answer.read()
            return answer.status == 200

        await route.until(answers_again, seconds=15)
    finally:
        provider.default = ANSWER
        await route.change(FAST)


async def test_primary_down_secondary_up(route: LiveRoute, provider: ScriptedUpstream) -> None:
    provider.default = ANSWER
    async with running_upstream(ANSWER) as secondary:
        try:
            await route.change(with_secondary(secondary))
            await wait_for_tokens(route, least=20, most=100)
            opened = int((await facts(route))["breaker_opened.primary"])
            provider.requests.clear()
            provider.default = answer_status(500)

            async def ask() -> None:
                for _ in range(25):
                    answer = await route.chat(REMOTE_PROMPT)
                    assert answer.status == 200, await answer.read()
                    assert answer.headers["x-hybridroute-path"] == "llm"
                    assert answer.headers["x-hybridroute-upstream"] == "secondary"

            await asyncio.gather(*(ask() for _ in range(8)))
            assert secondary.attempts == 200
            assert provider.attempts < 100, "first attempts still go to the upstream that is down"

            async def is_shown_as_open() -> bool:
                seen = await facts(route)
                return seen["upstream.primary"] != "closed" and int(seen["breaker_opened.primary"]) > opened

            await route.until(is_shown_as_open)
            _, shown, _ = await route.command("status")
            assert "upstream primary: open" in shown or "upstream primary: half_open" in shown
            assert "upstream secondary: closed" in shown

            provider.default = ANSWER

            async def primary_serves() -> bool:
                answer = await route.chat(REMOTE_PROMPT)
                await answer.read()
                assert answer.status == 200
                return answer.headers["x-hybridroute-upstream"] == "primary"

            await route.until(primary_serves)
        finally:
            provider.default = ANSWER
            await route.change(FAST)


async def test_full_outage_costs_no_more_than_the_retry_budget(
    route: LiveRoute, provider: ScriptedUpstream
) -> None:
    async with outage(route, provider):
        started = time.monotonic()

        async def ask() -> tuple[int, str | None]:
            answer = await route.chat(REMOTE_PROMPT)
            await answer.read()
            return answer.status, answer.headers.get("x-should-retry")

        tasks = []
        for _ in range(200):
            tasks.append(asyncio.create_task(ask()))
            # The rate of the load: 20 requests/s.
            await asyncio.sleep(0.05)
        seen = set(await asyncio.gather(*tasks))
        seconds = time.monotonic() - started

        assert seen == {(503, "false")}
        assert 20 <= provider.attempts <= allowed_attempts(200, seconds)


async def test_openai_sdk_does_not_multiply_attempts(route: LiveRoute, provider: ScriptedUpstream) -> None:
    async with outage(route, provider):
        started, since = time.monotonic(), time.time()
        async with AsyncOpenAI(base_url=f"{route.url}/v1", api_key="unused") as client:
            assert client.max_retries == 2

            async def ask() -> None:
                for _ in range(15):
                    with pytest.raises(openai.InternalServerError):
                        await client.chat.completions.create(
                            model="hybridroute",
                            messages=[{"role": "user", "content": REMOTE_PROMPT}],
                            max_tokens=16,
                        )

            await asyncio.gather(*(ask() for _ in range(8)))
        seconds = time.monotonic() - started
        assert provider.attempts <= allowed_attempts(120, seconds)

        async def all_recorded() -> bool:
            return len(await route.records_since(since)) >= 120

        await route.until(all_recorded)
        assert len(await route.records_since(since)) == 120, "the SDK tried again"
