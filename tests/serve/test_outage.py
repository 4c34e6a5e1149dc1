"""Providers that are down: who notices, what it costs in attempts, and how soon it is over, on a running route.

A sample, short and with one llm-proxy, of what `tests/long/test_outage_campaign.py` does at length.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI

from serve.conftest import FAST
from support.live_route import REMOTE_PROMPT, LiveRoute
from support.outages import (
    FAULTS,
    CountingProvider,
    Outage,
    RetryBudget,
    asks,
    offer_outage,
    proxy_facts,
    sdk_asks,
)
from support.routes import merged
from support.upstream import (
    ScriptedUpstream,
    answer_json,
    answer_status,
    chat_answer,
    hang_before_headers,
    running_upstream,
)

ANSWER = answer_json(chat_answer())
BUDGET = RetryBudget(burst=5)
OTHER_FAULTS = random.Random(20261124).sample([name for name in FAULTS if name != "500"], 2)
LONGEST_REQUEST_SECONDS = 6.0
"""The upstream's total timeout: how long after the outage's end an attempt may still be caused by it."""
SMALL_BURST = merged(
    FAST,
    {"spec": {"llm": {"retryBudget": {"burst": 5, "minPerSecond": "1"}}}},
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
    """Return what the youngest llm-proxy replica says of its upstreams."""
    return (await proxy_facts(route))[-1]


async def wait_for_tokens(route: LiveRoute, *, least: float, most: float) -> None:
    """Wait until the replica's share of the retry budget is what the live policy makes it."""

    async def held() -> bool:
        return least <= float((await facts(route))["retry_tokens"]) <= most

    await route.until(held)


@asynccontextmanager
async def small_retry_budget(route: LiveRoute, provider: ScriptedUpstream) -> AsyncIterator[CountingProvider]:
    """A small retry budget, full, and a provider that is well; so it is afterwards, and the route serves."""
    provider.default = counting = CountingProvider()
    await route.change(SMALL_BURST)
    try:
        await wait_for_tokens(route, least=BUDGET.burst - 1, most=BUDGET.burst)
        yield counting

        async def answers_again() -> bool:
            answer = await route.chat(REMOTE_PROMPT)
            await answer.read()
            return answer.status == 200

        await route.until(answers_again)
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
            assert "(failures in a row)" in shown or "(a failure when retry tokens were low)" in shown
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


async def test_a_primary_that_hangs_costs_no_error_where_timeouts_are_retried(
    route: LiveRoute, provider: ScriptedUpstream
) -> None:
    async with running_upstream(ANSWER) as secondary:
        try:
            patient = {"spec": {"llm": {"retryBudget": {"retryTimeouts": True}}}}
            await route.change(merged(with_secondary(secondary), patient))
            await wait_for_tokens(route, least=20, most=100)
            provider.requests.clear()
            provider.default = hang_before_headers

            answers = await asyncio.gather(*(route.chat(REMOTE_PROMPT) for _ in range(4)))
            assert [answer.status for answer in answers] == [200] * 4
            assert {answer.headers["x-hybridroute-upstream"] for answer in answers} == {"secondary"}
            assert provider.attempts == secondary.attempts == 4
            for answer in answers:
                document = await route.record(answer.headers["x-hybridroute-request-id"], attempts=2)
                assert [one["outcome"] for one in document["attempts"]] == ["timeout", "ok"]
        finally:
            provider.default = ANSWER
            await route.change(FAST)


@pytest.mark.parametrize("fault", ["500", *OTHER_FAULTS])
async def test_an_outage_costs_no_more_than_the_retry_budget(
    route: LiveRoute, provider: ScriptedUpstream, fault: str
) -> None:
    async with small_retry_budget(route, provider) as counting:
        outage = await offer_outage(
            asks(route), counting, FAULTS[fault](), rate=20, seconds=8, healthy_seconds=1, recovery_seconds=3
        )

    assert outage.requests > 0
    assert outage.attempts <= allowed(outage)
    assert outage.inviting == 0, "an answer let the client's SDK try again"
    if fault == "500":
        assert outage.statuses[503] > outage.requests / 2


async def test_openai_sdk_does_not_multiply_attempts(route: LiveRoute, provider: ScriptedUpstream) -> None:
    async with (
        small_retry_budget(route, provider) as counting,
        AsyncOpenAI(base_url=f"{route.url}/v1", api_key="unused") as client,
    ):
        assert client.max_retries == 2
        since = time.time()
        outage = await offer_outage(
            sdk_asks(client),
            counting,
            FAULTS["500"](),
            rate=15,
            seconds=8,
            healthy_seconds=1,
            recovery_seconds=1,
        )

        async def all_recorded() -> bool:
            return len(await route.records_since(since)) >= outage.all_requests

        await route.until(all_recorded)
        assert len(await route.records_since(since)) == outage.all_requests, "the SDK tried again"

    assert outage.attempts <= allowed(outage)


def allowed(outage: Outage) -> float:
    """Return how many attempts the retry budget bears."""
    seconds = outage.seconds + LONGEST_REQUEST_SECONDS
    return BUDGET.most_attempts(outage.requests, seconds, served=outage.statuses[200])
