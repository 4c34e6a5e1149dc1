"""A window that really turns: a minute, the shortest there is, spent again and again on a running route."""

import asyncio
import time
from pathlib import Path

import pytest

from serve.conftest import FAST, PROVIDER_KEY
from support.live_budget import BillingProvider, limited
from support.live_route import REMOTE_PROMPT, running_route
from support.upstream import running_upstream

LIMIT_NANO_USD = 5_000_000
WINDOW_SECONDS = 60
SLOT_SECONDS = WINDOW_SECONDS / 24
TURNS = 3
SEED = 20261124

pytestmark = pytest.mark.timeout(900)


async def test_service_resumes_as_the_window_turns(tmp_path: Path) -> None:
    billing = BillingProvider(SEED)
    bills: list[tuple[float, int]] = []
    resumed_after: list[float] = []
    exhausted_at: float | None = None
    async with running_upstream(billing) as provider:
        environ = {"OPENAI_API_KEY": PROVIDER_KEY, "OPENAI_BASE_URL": provider.base_url}
        async with running_route(tmp_path, environ, limited(FAST, LIMIT_NANO_USD, window="1m")) as route:
            deadline = time.monotonic() + 600
            while len(resumed_after) < TURNS:
                assert time.monotonic() < deadline, resumed_after
                before, asked_at = billing.nano_usd, time.monotonic()
                answer = await route.chat(REMOTE_PROMPT, max_tokens=64)
                body = await answer.read()
                if answer.status == 200:
                    bills.append((asked_at, billing.nano_usd - before))
                    if exhausted_at is not None:
                        resumed_after.append(time.monotonic() - exhausted_at)
                        exhausted_at = None
                    continue
                assert (answer.status, b"budget_exhausted" in body) == (429, True), body
                resets_at = int(answer.headers["x-hybridroute-budget-resets-at"])
                assert resets_at <= time.time() + WINDOW_SECONDS + SLOT_SECONDS + 1
                exhausted_at = exhausted_at or time.monotonic()
                await asyncio.sleep(0.5)

    for start, _ in bills:
        # An attempt counts from its reservation, which comes after the request was sent.
        billed = sum(nano_usd for at, nano_usd in bills if start <= at < start + WINDOW_SECONDS - 1)
        assert billed <= LIMIT_NANO_USD
    shown = ", ".join(f"{seconds:.0f} s" for seconds in resumed_after)
    print(f"\n{len(bills)} answers, spent {TURNS} times, resumed after {shown}", flush=True)  # noqa: T201
