"""The router's bench, and the embedding that it decides with."""

from collections.abc import AsyncIterator

import pytest

from hybridroute_serve.routing.embedding import Embedder, load_static_embedder
from support.router_bench import Bench, running_bench


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return load_static_embedder()


@pytest.fixture
async def bench(embedder: Embedder) -> AsyncIterator[Bench]:
    async with running_bench(embedder) as made:
        yield made
