"""The engine that a module's tests share: the bundled model, started once."""

from collections.abc import AsyncIterator

import pytest_asyncio

from hybridroute_serve.engines.llamacpp import LlamaCppEngine
from support.slm import BUNDLED


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[LlamaCppEngine]:
    engine = LlamaCppEngine(BUNDLED)
    await engine.start()
    yield engine
    await engine.close()
