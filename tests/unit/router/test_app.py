"""The router's routes that serve no model: open or not, and what a client may see."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hybridroute_api.serving import AuthPolicy, LivePolicy, RouterArgs
from hybridroute_serve.keeper.client import COPY_NAME
from hybridroute_serve.router.app import RouterApp
from support.asgi_client import AsgiClient, lifespan
from support.client_files import ClientsFile
from support.policies import a_policy
from support.serving import free_port

KEY = "sk-bot-0123456789abcdef"
LOCAL_KEY = "sk-clinic-0123456789abc"


@asynccontextmanager
async def running_router(embedder, directory, policy: LivePolicy) -> AsyncIterator[AsgiClient]:
    """A router that has its policy from its copy; keeper and paths are away."""
    away = f"http://127.0.0.1:{free_port()}"
    (directory / "token").write_text("internal")
    (directory / COPY_NAME).write_text(policy.model_dump_json())
    args = RouterArgs(
        route="support",
        token_file=str(directory / "token"),
        keeper_url=away,
        slm_url=away,
        llm_url=away,
        slm_backend_metrics_url=away,
        slm_backend="http-slm",
        llm_backend_metrics_url=away,
        llm_backend="http-llm-proxy",
        router_backend="http-router",
        journal_dir=str(directory),
    )
    app = RouterApp(args, embedder, replica="router-1")
    running = lifespan(app)
    await anext(running)
    try:
        yield AsgiClient(app)
    finally:
        with pytest.raises(StopAsyncIteration):
            await anext(running)


async def models(client: AsgiClient, key: str | None = None) -> tuple[int, list[str]]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    answer = await client.request("GET", "/v1/models", headers=headers)
    return answer.status, [model["id"] for model in answer.json().get("data", [])]


async def test_models_are_shown_to_whoever_has_a_key_and_health_to_everybody(embedder, tmp_path):
    file = ClientsFile(tmp_path / "clients.yaml")
    file.write({"name": "bot", "keys": [KEY]}, {"name": "clinic", "keys": [LOCAL_KEY], "localOnly": True})
    policy = a_policy(auth=AuthPolicy(keys_file=str(file.path)))
    async with running_router(embedder, tmp_path, policy) as client:
        assert await models(client) == (401, [])
        assert await models(client, KEY + "x") == (401, [])
        assert await models(client, KEY) == (200, ["hybridroute", "support", "slm", "llm"])
        assert await models(client, LOCAL_KEY) == (200, ["hybridroute", "support", "slm"])
        assert (await client.request("GET", "/healthz")).status == 200
        ready = await client.request("GET", "/readyz")
        assert (ready.status, ready.json()["policy"]) == (503, True)


async def test_an_open_route_shows_its_models_to_everybody(embedder, tmp_path):
    async with running_router(embedder, tmp_path, a_policy()) as client:
        assert await models(client) == (200, ["hybridroute", "support", "slm", "llm"])
        one = await client.request("GET", "/v1/models/slm")
        assert (one.status, one.json()["id"]) == (200, "slm")
        none = await client.request("GET", "/v1/models/gpt-9")
        assert (none.status, none.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_chat_without_a_key_is_401_before_anything_else(embedder, tmp_path):
    file = ClientsFile(tmp_path / "clients.yaml")
    file.write({"name": "bot", "keys": [KEY]})
    policy = a_policy(auth=AuthPolicy(keys_file=str(file.path)))
    async with running_router(embedder, tmp_path, policy) as client:
        answer = await client.request("POST", "/v1/chat/completions", b"not json")

    assert (answer.status, answer.json()["error"]["code"]) == (401, "api_key_missing")
