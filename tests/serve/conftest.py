"""One real route for the whole tier: local Ray with HAProxy, the real engine, a scripted provider."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.live_route import LiveRoute, running_route
from support.ray_tier import prepare_items
from support.upstream import ScriptedUpstream, running_upstream

PROVIDER_KEY = "sk-provider-secret-0123456789"

FAST = {
    "spec": {
        "llm": {"upstreams": [{"timeouts": {"connect": "1s", "firstByte": "2s", "total": "6s"}}]},
        "slm": {"timeouts": {"firstByte": "15s", "total": "60s"}},
    }
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    prepare_items(items, Path(__file__).parent)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def provider() -> AsyncIterator[ScriptedUpstream]:
    async with running_upstream() as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def session_route(
    provider: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LiveRoute]:
    home = tmp_path_factory.mktemp("home")
    environ = {"OPENAI_API_KEY": PROVIDER_KEY, "OPENAI_BASE_URL": provider.base_url}
    async with running_route(home, environ, FAST) as route:
        yield route


@pytest_asyncio.fixture(loop_scope="session")
async def route(session_route: LiveRoute, provider: ScriptedUpstream) -> AsyncIterator[LiveRoute]:
    """The route, with a provider that has forgotten the last test."""
    provider.scripts.clear()
    provider.requests.clear()
    provider.clients_gone = 0
    yield session_route
