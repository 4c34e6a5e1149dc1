"""Two providers and an llm-proxy before them."""

from collections.abc import AsyncIterator

import pytest

from support.attempts import ProxyBench, running_proxy
from support.policies import an_upstream
from support.upstream import ScriptedUpstream, running_upstream


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with running_upstream() as one:
        yield one


@pytest.fixture
async def second() -> AsyncIterator[ScriptedUpstream]:
    async with running_upstream() as one:
        yield one


@pytest.fixture
async def bench(upstream: ScriptedUpstream, second: ScriptedUpstream) -> AsyncIterator[ProxyBench]:
    """One upstream, until a test names others. At the end nothing is left open: no connection, attempt or dollar."""
    async with running_proxy() as proxy:
        proxy.use([an_upstream(base_url=upstream.base_url)])
        yield proxy
    for one in (upstream, second):
        await one.wait_until(lambda one: one.open_connections == 0)
    assert proxy.ledger.all_closed
    assert proxy.relay.ongoing == 0
    assert proxy.accounts.all_ended
