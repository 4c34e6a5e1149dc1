"""The whole route on this machine with nothing but packages: embedded SLM, labelled stand-in for the LLM."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.live_route import LiveRoute, running_route
from support.ray_tier import prepare_items

NO_PROVIDER = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    prepare_items(items, Path(__file__).parent)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def route(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveRoute]:
    async with running_route(tmp_path_factory.mktemp("home"), NO_PROVIDER) as running:
        yield running
