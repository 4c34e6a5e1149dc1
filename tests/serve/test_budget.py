"""The dollar budget of a route that really runs: what happens when it is spent, and that nothing goes past it."""

import asyncio
import time
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from serve.conftest import FAST
from support.live_budget import (
    BOUND_NANO_USD,
    RUSH_OUTPUT_TOKENS,
    BillingProvider,
    Rush,
    leave_room,
    limited,
    read_budget,
)
from support.live_route import LOCAL_PROMPT, REMOTE_PROMPT, LiveRoute
from support.routes import merged
from support.upstream import ScriptedUpstream, answer_json, chat_answer

ANSWER_NANO_USD = 100 * 400 + 20 * 1600
"""What the provider's usual answer costs."""
ALL_TO_LLM = merged(FAST, {"spec": {"routing": {"confidence": {"threshold": "1"}}}})
"""A threshold that nothing reaches sends in-scope requests to the LLM by confidence."""
RUSH = merged(FAST, {"spec": {"llm": {"upstreams": [{"maxOutputTokens": RUSH_OUTPUT_TOKENS}]}}})
RUSH_NANO_USD = 250_000_000
SEED = 20261124


@pytest.fixture(autouse=True)
def answers(provider: ScriptedUpstream) -> None:
    provider.default = answer_json(chat_answer())


async def spend_all(route: LiveRoute, prompt: str) -> Any:
    """Ask until the LLM is not paid any more; return the first answer that says so."""
    for number in range(40):
        answer = await route.chat(prompt)
        await answer.read()
        if answer.headers["x-hybridroute-gate"] == "budget":
            assert number > 0, "the budget was spent from the start"
            return answer
        assert answer.headers["x-hybridroute-path"] == "llm"
    raise AssertionError("the budget was never spent")


async def test_spent_budget_degrades_to_the_slm_and_says_why(
    route: LiveRoute, provider: ScriptedUpstream
) -> None:
    try:
        before = await leave_room(route, ALL_TO_LLM, 1_000_000, onExhausted="Degrade")
        answer = await spend_all(route, LOCAL_PROMPT)

        assert answer.status == 200
        assert answer.headers["x-hybridroute-path"] == "slm"
        assert int(answer.headers["x-hybridroute-budget-resets-at"]) > time.time()
        request_id = answer.headers["x-hybridroute-request-id"]
        document = await route.record(request_id, attempts=1)
        record = document["record"]
        assert (record["outcome"], record["path"], record["gate"]) == ("ok", "slm", "budget")
        assert "onExhausted Degrade" in record["reason"]
        assert "confidence" in record["reason"]
        _, explained, _ = await route.command("explain", request_id)
        assert "gate budget" in " ".join(explained.split())
        assert ANSWER_NANO_USD * provider.attempts <= 1_000_000
        assert (await read_budget(route))["limit"] == before + 1_000_000
    finally:
        await route.change(FAST)


async def test_spent_budget_rejects_until_the_limit_is_raised(
    route: LiveRoute, provider: ScriptedUpstream
) -> None:
    try:
        await leave_room(route, FAST, 1_000_000, onExhaustedOutOfScope="Reject")
        answer = await spend_all(route, REMOTE_PROMPT)
        error = (await answer.json())["error"]

        assert answer.status == 429
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == "budget_exhausted"
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["x-should-retry"] == "false"
        assert int(answer.headers["x-hybridroute-budget-resets-at"]) > time.time()
        document = await route.record(answer.headers["x-hybridroute-request-id"])
        assert (document["record"]["outcome"], document["record"]["gate"]) == ("unaffordable", "budget")
        assert "onExhaustedOutOfScope Reject" in document["record"]["reason"]

        sent = provider.attempts
        since = time.time()
        async with AsyncOpenAI(base_url=f"{route.url}/v1", api_key="unused") as client:
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(
                    model="hybridroute", messages=[{"role": "user", "content": REMOTE_PROMPT}], max_tokens=16
                )
        assert provider.attempts == sent

        async def recorded() -> bool:
            return bool(await route.records_since(since))

        await route.until(recorded)
        assert len(await route.records_since(since)) == 1, "the SDK tried again"
        # What the SLM serves anyway is not touched.
        kept = await route.chat(LOCAL_PROMPT)
        await kept.read()
        assert (kept.status, kept.headers["x-hybridroute-gate"]) == (200, "confidence")

        raised = (await read_budget(route))["limit"] + 10_000_000
        await route.change(limited(FAST, raised))

        async def serves() -> bool:
            again = await route.chat(REMOTE_PROMPT)
            await again.read()
            return again.status == 200

        await route.until(serves, seconds=10)
    finally:
        await route.change(FAST)


async def test_rush_on_the_rest_of_a_budget_with_the_proxy_killed(
    route: LiveRoute, provider: ScriptedUpstream
) -> None:
    billing = BillingProvider(SEED)
    provider.default = billing

    async def kill() -> None:
        processes = route.processes("ServeReplica:llm-proxy")
        assert processes
        for process in processes:
            process.kill()

    try:
        before = await leave_room(route, RUSH, RUSH_NANO_USD)
        rush = Rush(route, billing, clients=128)
        await rush.run(kill_at_nano_usd=RUSH_NANO_USD // 4, kill=kill)
        budget = await read_budget(route)

        used = budget["spent"] + budget["reserved"] - before
        assert billing.nano_usd <= RUSH_NANO_USD, "the provider was paid more than the limit"
        assert 0.9 * RUSH_NANO_USD <= used <= RUSH_NANO_USD
        # What was under way when the proxy died counts in full, and nothing else is lost.
        assert used <= billing.nano_usd + rush.clients * BOUND_NANO_USD
        assert set(rush.seen) <= {"200", "429", "500", "503"}, rush.seen
    finally:
        await route.change(FAST)


async def test_keeper_killed_while_budgeted(route: LiveRoute, provider: ScriptedUpstream) -> None:
    try:
        # 1 % of it is lent at a time: enough for what is asked here.
        await leave_room(route, FAST, 100 * 10**9)
        for _ in range(3):
            answer = await route.chat(REMOTE_PROMPT)
            assert answer.status == 200, await answer.read()
        sent = provider.attempts
        before = (await route.keeper("/state"))["epoch"]
        for process in route.processes("ServeReplica:keeper"):
            process.kill()
        answers = await asyncio.gather(*(route.chat(REMOTE_PROMPT) for _ in range(20)))
        assert [answer.status for answer in answers] == [200] * 20
        assert provider.attempts == sent + 20

        async def is_back_and_has_counted() -> bool:
            state = await route.keeper("/state")
            return bool(state and state["epoch"] > before and state["budget"])

        await route.until(is_back_and_has_counted, seconds=90)
        for answer in answers:
            document = await route.record(answer.headers["x-hybridroute-request-id"], attempts=1)
            assert document["attempts"][0]["settled_nano_usd"] == ANSWER_NANO_USD
        last = await route.chat(REMOTE_PROMPT)
        assert last.status == 200, await last.read()
    finally:
        await route.change(FAST)
