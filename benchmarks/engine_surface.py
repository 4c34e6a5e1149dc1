"""What an engine must serve, asked for through the SLM application: chat, streams, logprobs, a schema, cancellation."""

import asyncio
import json
import time
from typing import Any, Final

import aiohttp

from hybridroute_serve.engines.engine import Engine

__all__ = ["check_surface"]

CITY: Final = {
    "type": "object",
    "properties": {"urgent": {"type": "boolean"}, "city": {"enum": ["Paris", "Rome"]}},
    "required": ["urgent", "city"],
    "additionalProperties": False,
}
FREED_SECONDS: Final = 1.0
"""A client that leaves frees its place before that; left alone, the answer would go on for longer."""


async def check_surface(engine: Engine, session: aiohttp.ClientSession, model: str) -> dict[str, str]:
    """Ask for what the engine must serve, through the SLM application. Raises AssertionError."""
    said: dict[str, str] = {}
    question = {
        "model": model,
        "messages": [{"role": "user", "content": "What is the sea?"}],
        "temperature": 0,
    }

    async def chat(**fields: Any) -> Any:
        async with session.post("/v1/chat/completions", json=question | fields) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    whole = (await chat(max_tokens=24))["choices"][0]["message"]["content"]
    assert whole
    said["chat"] = whole
    body = question | {"max_tokens": 24, "stream": True}
    async with session.post("/v1/chat/completions", json=body) as answer:
        events = [json.loads(line[6:]) async for line in answer.content if line.startswith(b"data: {")]
    pieces = [event["choices"][0]["delta"].get("content") or "" for event in events]
    assert "".join(pieces) == whole, pieces
    said["streaming"] = f"{len(pieces)} events, the same text"
    logprobs = (await chat(max_tokens=4, logprobs=True, top_logprobs=3))["choices"][0]["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in logprobs] == [3] * 4
    said["logprobs"] = "3 alternatives for each of 4 tokens"
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    text = (await chat(max_tokens=64, response_format=schema))["choices"][0]["message"]["content"]
    document = json.loads(text)
    assert isinstance(document["urgent"], bool)
    assert document["city"] in ("Paris", "Rome")
    said["JSON schema"] = text
    said["cancellation"] = await check_cancellation(engine, session, question)
    return said


async def check_cancellation(engine: Engine, session: aiohttp.ClientSession, question: dict[str, Any]) -> str:
    """Leave a stream in its middle and return how long its place in the engine stayed taken."""
    body = question | {"max_tokens": 1500, "ignore_eos": True, "stream": True}
    answer = await session.post("/v1/chat/completions", json=body)
    for _ in range(8):
        await answer.content.readline()
    running = (await engine.signals()).running
    assert running == 1, running
    answer.close()
    left_at = time.monotonic()
    while (await engine.signals()).running:
        assert time.monotonic() - left_at < FREED_SECONDS, "the place stayed taken"
        await asyncio.sleep(0.001)
    return f"running 1, and 0 within {1000 * (time.monotonic() - left_at):.0f} ms of the client's leaving"
