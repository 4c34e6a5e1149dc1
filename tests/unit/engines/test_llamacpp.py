"""The real llama.cpp with the bundled model."""

import asyncio
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from hybridroute_serve.engines.engine import EngineError
from hybridroute_serve.engines.llamacpp import LlamaCppEngine
from hybridroute_serve.engines.models import find_model
from support.eventually import eventually
from support.slm import BUNDLED

SMALL = replace(BUNDLED, context_tokens=512, parallel_sequences=2)


async def _is_idle(engine: LlamaCppEngine) -> bool:
    return (await engine.signals()).running == 0


async def test_an_engine_from_its_start_to_its_end() -> None:
    engine = LlamaCppEngine(SMALL)
    with pytest.raises(EngineError, match="not been started"):
        engine.describe()
    await engine.start()
    try:
        await engine.check_ready()
        described = engine.describe()
        assert (described.engine, described.model) == ("llamacpp", "small")
        assert (described.context_tokens, described.parallel_sequences) == (512, 2)
        assert described.digest == ("sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")
        assert described.tools is False
        base_url = engine.base_url
        assert base_url.startswith("http://127.0.0.1:")
        question = {"messages": [{"role": "user", "content": "Count"}], "ignore_eos": True, "stream": True}
        async with aiohttp.ClientSession() as stranger:
            async with stranger.post(f"{base_url}/v1/chat/completions", json=question) as refused:
                assert refused.status == 401
            asking = stranger.post(f"{base_url}/v1/chat/completions", json=question, headers=engine.headers)
            async with asking as answer:
                assert answer.status == 200
                await answer.content.readany()
                assert (await engine.signals()).running == 1
        await eventually(lambda: _is_idle(engine))
    finally:
        await engine.close()
    with pytest.raises(EngineError, match="not running"):
        await engine.check_ready()
    async with aiohttp.ClientSession() as stranger:
        with pytest.raises(aiohttp.ClientConnectorError):
            await stranger.get(f"{base_url}/health")


async def test_an_engine_can_close_with_a_stream_in_flight() -> None:
    engine = LlamaCppEngine(SMALL)
    await engine.start()
    question = {"messages": [{"role": "user", "content": "Count"}], "ignore_eos": True, "stream": True}
    async with (
        aiohttp.ClientSession(headers=engine.headers) as client,
        client.post(f"{engine.base_url}/v1/chat/completions", json=question) as answer,
    ):
        await answer.content.readany()
        closing = asyncio.create_task(engine.close())
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
        await closing


async def test_a_context_beyond_the_models_own_is_refused() -> None:
    engine = LlamaCppEngine(replace(SMALL, context_tokens=8448, parallel_sequences=1))
    with pytest.raises(EngineError, match=r"set spec\.slm\.contextTokens to at most 8192"):
        await engine.start()
    with pytest.raises(EngineError, match="not running"):
        await engine.signals()


@pytest.mark.parametrize("kept_bytes", [0, 5, 1_000_000])
async def test_damaged_weights_are_an_error_with_advice(tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(find_model(SMALL.model_uri).path.read_bytes()[:kept_bytes])
    engine = LlamaCppEngine(replace(SMALL, model_uri=str(path)))
    with pytest.raises(EngineError, match=r"could not load .*may be damaged"):
        await engine.start()


async def test_two_engines_do_not_share_a_key_or_a_port() -> None:
    first, second = LlamaCppEngine(SMALL), LlamaCppEngine(SMALL)
    await first.start()
    await second.start()
    try:
        assert first.base_url != second.base_url
        async with (
            aiohttp.ClientSession(headers=first.headers) as client,
            client.get(f"{second.base_url}/metrics") as refused,
        ):
            assert refused.status == 401
    finally:
        await first.close()
        await second.close()
