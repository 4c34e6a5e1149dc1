"""Rushes on the rest of a budget, one after the other on one route, with replicas or the whole Ray killed in between.

`BUDGET_RUNS=50 make test-long` says how many; every fourth kills the whole Ray, supervisor included, and starts it
again. What each came to is printed as a table, `pytest -s`. After the last the limit is raised, and service resumes.
"""

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hybridroute_api.quantities import format_usd
from serve.conftest import FAST, PROVIDER_KEY
from support.live_budget import (
    BOUND_NANO_USD,
    RUSH_OUTPUT_TOKENS,
    BillingProvider,
    Rush,
    leave_room,
    read_budget,
)
from support.live_route import REMOTE_PROMPT, LiveRoute, running_route
from support.routes import merged
from support.upstream import ScriptedUpstream, running_upstream

RUNS = int(os.environ.get("BUDGET_RUNS", "4"))
CLIENTS = 256
REPLICAS = 4
SEED = 20261124
ROOM_NANO_USD = 200_000_000
KILLS = ("one llm-proxy", "one llm-proxy", "every llm-proxy", "the whole Ray")
CHANGES: dict[str, Any] = merged(
    FAST,
    {
        "spec": {
            "llm": {
                "upstreams": [{"maxOutputTokens": RUSH_OUTPUT_TOKENS}],
                "scaling": {"minReplicas": REPLICAS, "maxReplicas": REPLICAS},
            }
        }
    },
)

pytestmark = pytest.mark.timeout(600)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def provider() -> AsyncIterator[ScriptedUpstream]:
    async with running_upstream() as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def route(
    provider: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LiveRoute]:
    environ = {"OPENAI_API_KEY": PROVIDER_KEY, "OPENAI_BASE_URL": provider.base_url}
    async with running_route(tmp_path_factory.mktemp("home"), environ, CHANGES) as running:
        yield running


async def kill(route: LiveRoute, what: str) -> None:
    """Kill with SIGKILL; what does not come back by itself is started again."""
    if what == "the whole Ray":
        await route.kill_and_start_again()
        return
    replicas = route.processes("ServeReplica:llm-proxy")
    assert replicas
    for process in replicas[:1] if what == "one llm-proxy" else replicas:
        process.kill()


@pytest.mark.parametrize("number", range(RUNS))
async def test_a_rush_never_spends_more_than_the_limit(
    route: LiveRoute, provider: ScriptedUpstream, number: int
) -> None:
    billing = BillingProvider(SEED + number)
    provider.default = billing
    provider.requests.clear()
    what = KILLS[number % len(KILLS)]

    before = await leave_room(route, CHANGES, ROOM_NANO_USD)
    rush = Rush(route, billing, CLIENTS)
    await rush.run(kill_at_nano_usd=ROOM_NANO_USD // 4, kill=lambda: kill(route, what))
    budget = await read_budget(route)
    used = budget["spent"] + budget["reserved"] - before
    billed, counted, limit = (format_usd(amount) for amount in (billing.nano_usd, used, ROOM_NANO_USD))
    row = f"| {number + 1} | {what} | {billing.answers} | {billed} | {counted} | {limit} |"
    print(f"\n{row}", flush=True)  # noqa: T201 - the campaign's result

    assert billing.nano_usd <= ROOM_NANO_USD, "the provider was paid more than the limit"
    assert 0.9 * ROOM_NANO_USD <= used <= ROOM_NANO_USD
    assert used <= billing.nano_usd + CLIENTS * BOUND_NANO_USD


async def test_service_resumes_when_there_is_money_again(
    route: LiveRoute, provider: ScriptedUpstream
) -> None:
    provider.default = BillingProvider(SEED)
    await leave_room(route, CHANGES, ROOM_NANO_USD)
    answer = await route.chat(REMOTE_PROMPT)
    await answer.read()
    assert answer.status == 200
