"""Upstreams that fail under load, one way after the other, on one route with 1 to 8 llm-proxy replicas.

`OUTAGE_SECONDS=60 make test-long` says how long the long ones are; `OUTAGE_TABLE` names a file for the table of what
each came to. Counts, no timings: a machine that cannot offer the rate says which it reached.
"""

import asyncio
import os
import shlex
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from serve.conftest import PROVIDER_KEY
from support.live_route import LOCAL_PROMPT, LiveRoute, running_route
from support.outages import (
    FAULTS,
    CountingProvider,
    Load,
    Outage,
    RetryBudget,
    asks,
    offer_outage,
    proxy_facts,
    sdk_asks,
)
from support.routes import merged
from support.upstream import ScriptedUpstream, running_upstream

SECONDS = float(os.environ.get("OUTAGE_SECONDS", "10"))
TABLE = os.environ.get("OUTAGE_TABLE")
MOST_REPLICAS = 8
TIMEOUTS = {"connect": "2s", "firstByte": "5s", "total": "10s"}
"""Short, and yet longer than a busy machine's pauses."""
BASE: dict[str, Any] = {"spec": {"llm": {"upstreams": [{"timeouts": TIMEOUTS}]}}}
BUDGET = RetryBudget()
LONGEST_REQUEST_SECONDS = 10.0
"""How long after an outage's end an attempt may still be caused by it: the upstream's total timeout."""
FULL = 0.9
"""Of the retry budget's burst, when an outage begins: buckets clip what comes in above their part."""

pytestmark = pytest.mark.timeout(900)


class Campaign:
    """The route, its provider and the rows of the table."""

    def __init__(self, route: LiveRoute, provider: CountingProvider) -> None:
        self.route = route
        self.provider = provider
        self.rows: list[str] = []
        self._changes: dict[str, Any] = BASE

    async def use(self, replicas: int, changes: dict[str, Any] | None = None) -> None:
        """Have so many llm-proxy replicas, all of them with a full bucket and closed breakers."""
        scaling = {"spec": {"llm": {"scaling": {"minReplicas": replicas, "maxReplicas": replicas}}}}
        self._changes = merged(merged(BASE, scaling), changes or {})
        await self.route.change(self._changes)

        async def are_all_there() -> bool:
            return len(await proxy_facts(self.route)) == replicas

        await self.route.until(are_all_there, seconds=120)
        await self.recover()

    async def recover(self) -> None:
        """Offer a healthy load until every breaker is closed and there are as many tokens as there can be."""
        load = Load(asks(self.route))
        deadline = time.monotonic() + 120
        while not await self._is_well():
            assert time.monotonic() < deadline, "the buckets do not fill"
            await load.offer(100, 2.0)
        await load.end()

    async def _is_well(self) -> bool:
        facts = await proxy_facts(self.route)
        closed = all(
            said == "closed" for one in facts for name, said in one.items() if name.startswith("upstream.")
        )
        return closed and sum(float(one["retry_tokens"]) for one in facts) >= FULL * BUDGET.burst

    async def grow(self, replicas: int) -> None:
        """Ask for more replicas, and do not wait for them."""
        scaling = {"spec": {"llm": {"scaling": {"minReplicas": replicas, "maxReplicas": replicas}}}}
        await self.route.change(merged(self._changes, scaling))

    def note(self, what: str, replicas: int | str, outage: Outage) -> None:
        """Add a row, and hold the outage to what is promised of every one."""
        bound = BUDGET.most_attempts(
            outage.requests, outage.seconds + LONGEST_REQUEST_SECONDS, served=outage.statuses[200]
        )
        failed = ", ".join(
            f"{status or 'broken'}: {count}"
            for status, count in sorted(outage.statuses.items())
            if status != 200
        )
        self.rows.append(
            f"| {what} | {replicas} | {outage.rate:.1f} | {outage.seconds:.0f} | {outage.requests}"
            f" | {outage.attempts_per_request:.3f} | {bound / outage.requests:.3f} | {outage.most_for_one}"
            f" | {failed or 'none'} | {outage.attempts_after} / {outage.requests_after}"
            f" | {outage.last_failure_seconds:.1f} s |"
        )
        print(f"\n{self.rows[-1]}", flush=True)  # noqa: T201 - the campaign's result
        assert outage.attempts <= bound
        assert outage.inviting == 0, "an answer let the client's SDK try again"
        assert outage.attempts_after <= 1.2 * outage.requests_after + 1

    def table(self) -> str:
        words = shlex.join(["pytest", *sys.argv[1:]])
        return "\n".join(
            [
                "# Outages on a running route",
                "",
                f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, `OUTAGE_SECONDS={SECONDS:g} {words}`,"
                f" {os.cpu_count()} cores shared by load, provider, Ray and whatever else ran.",
                "",
                f"Retry budget at its defaults: ratio {BUDGET.ratio}, {BUDGET.floor_per_second:g} a second, burst"
                f" {BUDGET.burst:g}, full when each fault begins; at most 3 attempts. `bound`: (requests + burst +"
                f" floor x (seconds + {LONGEST_REQUEST_SECONDS:g}) + ratio x served) / requests. Rows are about the"
                " requests that came during the fault; `first second after`: attempts / arrivals; `last failure"
                " after`: its arrival, from the fault's end. Fixed retries (three) would give 4.000.",
                "",
                "| fault | llm-proxy replicas | requests/s reached | seconds | requests | attempts per request"
                " | bound | most for one | client errors | first second after | last failure after |",
                "|---|---|---|---|---|---|---|---|---|---|---|",
                *self.rows,
                "",
            ]
        )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with running_upstream() as one:
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running_campaign(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Campaign]:
    environ = {"OPENAI_API_KEY": PROVIDER_KEY, "OPENAI_BASE_URL": upstream.base_url}
    # Ray makes room for as many as there may be when it starts.
    room = {"spec": {"llm": {"scaling": {"minReplicas": 1, "maxReplicas": MOST_REPLICAS}}}}
    async with running_route(tmp_path_factory.mktemp("home"), environ, merged(BASE, room)) as route:
        provider = CountingProvider()
        upstream.default = provider
        yield Campaign(route, provider)


@pytest.fixture
def campaign(running_campaign: Campaign, upstream: ScriptedUpstream) -> Iterator[Campaign]:
    upstream.requests.clear()
    yield running_campaign
    if TABLE:
        Path(TABLE).write_text(running_campaign.table())


def failover(secondary: ScriptedUpstream) -> dict[str, Any]:
    """Return changes that put a second provider behind the first."""
    other = {
        "name": "secondary",
        "baseURL": secondary.base_url,
        "model": "other",
        "pricing": {"inputPerMillionTokensUSD": "1", "outputPerMillionTokensUSD": "2"},
        "timeouts": TIMEOUTS,
    }
    return {"spec": {"llm": {"upstreams": [{}, other]}}}


@pytest.mark.parametrize("replicas", [8, 4, 2, 1])
async def test_everything_down(campaign: Campaign, replicas: int) -> None:
    await campaign.use(replicas)
    outage = await offer_outage(
        asks(campaign.route), campaign.provider, FAULTS["500"](), rate=100, seconds=SECONDS
    )
    campaign.note("500", replicas, outage)
    assert outage.attempts <= 1.05 * outage.requests


async def test_everything_down_while_scaling(campaign: Campaign) -> None:
    await campaign.use(1)
    outage = await offer_outage(
        asks(campaign.route),
        campaign.provider,
        FAULTS["500"](),
        rate=100,
        seconds=SECONDS,
        meanwhile=lambda: campaign.grow(MOST_REPLICAS),
    )
    campaign.note("500", "1→8", outage)
    assert outage.attempts <= 1.05 * outage.requests


async def test_primary_down_while_scaling(campaign: Campaign) -> None:
    async with running_upstream(campaign.provider.answer_as_secondary) as secondary:
        await campaign.use(1, failover(secondary))
        outage = await offer_outage(
            asks(campaign.route),
            campaign.provider,
            FAULTS["500"](),
            rate=50,
            seconds=SECONDS,
            meanwhile=lambda: campaign.grow(MOST_REPLICAS),
        )
        campaign.note("primary 500, secondary up", "1→8", outage)
        assert outage.errors == 0


@pytest.mark.parametrize("fault", ["500", "reset", "no answer", "429, Retry-After 1"])
async def test_primary_down_secondary_up(campaign: Campaign, fault: str) -> None:
    async with running_upstream(campaign.provider.answer_as_secondary) as secondary:
        await campaign.use(MOST_REPLICAS, failover(secondary))
        outage = await offer_outage(
            asks(campaign.route), campaign.provider, FAULTS[fault](), rate=50, seconds=SECONDS / 3
        )
        campaign.note(f"primary {fault}, secondary up", MOST_REPLICAS, outage)
        if fault != "no answer":
            assert outage.errors == 0


async def test_a_primary_that_hangs_costs_no_error_where_timeouts_are_retried(campaign: Campaign) -> None:
    """As long as the retry budget suffices: what was sent when the breaker opens takes two tokens a request."""
    async with running_upstream(campaign.provider.answer_as_secondary) as secondary:
        changes = merged(failover(secondary), {"spec": {"llm": {"retryBudget": {"retryTimeouts": True}}}})
        await campaign.use(1, changes)
        outage = await offer_outage(
            asks(campaign.route), campaign.provider, FAULTS["no answer"](), rate=4, seconds=SECONDS / 3
        )
        campaign.note("primary no answer, secondary up, `retryTimeouts`", "1", outage)
        assert outage.errors == 0


@pytest.mark.parametrize(
    ("rate", "seconds"), [(1, SECONDS), (10, SECONDS), (35, SECONDS), (10, 10), (100, 10)]
)
async def test_everything_down_at_other_rates(campaign: Campaign, rate: float, seconds: float) -> None:
    await campaign.use(MOST_REPLICAS)
    outage = await offer_outage(
        asks(campaign.route), campaign.provider, FAULTS["500"](), rate=rate, seconds=seconds
    )
    campaign.note("500", MOST_REPLICAS, outage)


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "500"])
async def test_other_faults(campaign: Campaign, fault: str) -> None:
    await campaign.use(MOST_REPLICAS)
    outage = await offer_outage(
        asks(campaign.route), campaign.provider, FAULTS[fault](), rate=35, seconds=SECONDS / 3
    )
    campaign.note(fault, MOST_REPLICAS, outage)


async def test_openai_sdk_with_its_own_retries(campaign: Campaign) -> None:
    await campaign.use(MOST_REPLICAS)
    since = time.time()
    async with AsyncOpenAI(base_url=f"{campaign.route.url}/v1", api_key="unused") as client:
        assert client.max_retries == 2
        outage = await offer_outage(
            sdk_asks(client), campaign.provider, FAULTS["500"](), rate=20, seconds=SECONDS / 3
        )
    campaign.note("500, clients are OpenAI SDKs with 2 retries", MOST_REPLICAS, outage)

    async def all_recorded() -> bool:
        return len(await campaign.route.records_since(since)) >= outage.all_requests

    await campaign.route.until(all_recorded)
    assert len(await campaign.route.records_since(since)) == outage.all_requests, "an SDK tried again"


async def test_slm_down_llm_up_within_budget(campaign: Campaign) -> None:
    await campaign.use(1, {"spec": {"budget": {"limitUSD": "100", "window": "24h"}}})
    seconds = SECONDS / 3

    async def keep_killing() -> None:
        deadline = time.monotonic() + seconds - 1
        while time.monotonic() < deadline:
            for process in campaign.route.processes("ServeReplica:slm:slm"):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            await asyncio.sleep(0.5)

    outage = await offer_outage(
        asks(campaign.route, LOCAL_PROMPT),
        campaign.provider,
        campaign.provider.script,
        rate=4,
        seconds=seconds,
        meanwhile=keep_killing,
    )
    campaign.note("SLM killed again and again, LLM up", "1", outage)
    assert outage.errors == 0
    assert outage.attempts > 0, "the LLM served meanwhile"
