"""vLLM's whole surface through the whole route, as a client with the OpenAI SDK sees it."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import psutil
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from support.live_route import LOCAL_PROMPT, LiveRoute
from support.upstream import ScriptedUpstream
from support.vllm_models import ADAPTER

ASKED: list[Any] = [{"role": "user", "content": LOCAL_PROMPT}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest_asyncio.fixture(loop_scope="session")
async def client(route: LiveRoute) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{route.url}/v1", api_key="unused", max_retries=0, timeout=300) as made:
        yield made


async def engine_load(route: LiveRoute) -> dict[str, float]:
    """Return what the engine's own metrics page says."""
    headers = {"x-hybridroute-internal-token": route.directory.read_token()}
    async with route.session.get(f"{route.url}/slm/metrics", headers=headers) as answer:
        assert answer.status == 200
        text = await answer.text()
    families = text_string_to_metric_families(text)
    return {sample.name: sample.value for family in families for sample in family.samples}


async def runs(route: LiveRoute, sequences: int) -> bool:
    return (await engine_load(route))["vllm:num_requests_running"] == sequences


def engine_processes(route: LiveRoute) -> list[psutil.Process]:
    found = [process for mark in ("VLLM", "spawn_main") for process in route.processes(mark)]
    assert found, "the engine's processes were not found"
    return found


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def serves_locally(client: AsyncOpenAI) -> bool:
    raw = await client.chat.completions.with_raw_response.create(
        model="hybridroute", messages=ASKED, max_tokens=4
    )
    return raw.headers["x-hybridroute-path"] == "slm"


async def test_a_chat_is_kept_answered_and_accounted_for(route: LiveRoute, client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="hybridroute", messages=ASKED, max_tokens=12, temperature=0
    )
    answer = raw.parse()
    assert raw.headers["x-hybridroute-path"] == "slm"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    document = await route.record(raw.headers["x-hybridroute-request-id"], attempts=1)
    [attempt] = document["attempts"]
    assert (attempt["outcome"], attempt["model"]) == ("ok", "smollm2-135m")
    assert attempt["usage"]["completion_tokens"] == answer.usage.completion_tokens > 0
    assert attempt["busy_seconds"] > 0


async def test_a_stream_says_the_same_as_a_whole_answer(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "slm", "messages": ASKED, "max_tokens": 12, "temperature": 0}
    whole = await client.chat.completions.create(**asked)
    stream = await client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert len(chunks) > 6


@pytest.mark.parametrize("more", [{}, {"stream": True}])
async def test_a_cascades_look_leaves_no_trace(route: LiveRoute, more: dict[str, Any]) -> None:
    asked = {"model": "slm", "messages": ASKED, "max_tokens": 12, "temperature": 0, **more}
    said: list[tuple[bytes, str | None]] = []
    for number, look in enumerate([{}, {"x-hybridroute-cascade-tokens": "8"}]):
        headers = {
            "x-hybridroute-internal-token": route.directory.read_token(),
            "x-hybridroute-request-id": f"hr-look-{len(more)}-{number}",
            **look,
        }
        url = f"{route.url}/slm/v1/chat/completions"
        async with route.session.post(url, json=asked, headers=headers) as answer:
            assert answer.status == 200
            margin = answer.headers.get("x-hybridroute-cascade-margin")
            said.append((re.sub(rb'"(id|created)":("[^"]*"|\d+)', b"", await answer.read()), margin))
    plain, looked_at = said
    assert looked_at[0] == plain[0]
    assert plain[1] is None
    assert looked_at[1] is not None
    margin, tokens = looked_at[1].split()
    assert 0.0 < float(margin) < 1.0
    assert tokens == "8"


async def test_tools(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="hybridroute",
        messages=ASKED,
        max_tokens=64,
        temperature=0,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    assert raw.headers["x-hybridroute-path"] == "slm"
    [call] = raw.parse().choices[0].message.tool_calls or []
    assert call.function.name == "get_weather"
    # What a model of 135 million parameters puts into them is its own affair; that they are JSON is vLLM's.
    json.loads(call.function.arguments)


async def test_logprobs(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="slm", messages=ASKED, max_tokens=4, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [len(token.top_logprobs) for token in logprobs.content] == [3] * 4
    assert all(token.logprob <= 0 for token in logprobs.content)


async def test_a_json_schema_is_kept(client: AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"urgent": {"type": "boolean"}, "city": {"enum": ["Paris", "Rome"]}},
        "required": ["urgent", "city"],
        "additionalProperties": False,
    }
    answer = await client.chat.completions.create(
        model="slm",
        messages=ASKED,
        max_tokens=64,
        temperature=0,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": schema, "strict": True},
        },
    )
    document = json.loads(answer.choices[0].message.content or "")
    assert isinstance(document["urgent"], bool)
    assert document["city"] in ("Paris", "Rome")


async def test_completions_have_vllm_s_own_options(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model="slm", prompt="The sea", max_tokens=4, echo=True, logprobs=1, extra_body={"min_p": 0.1}
    )
    assert answer.choices[0].text.startswith("The sea")
    assert answer.choices[0].logprobs is not None


async def test_an_adapter_is_served_by_its_name(route: LiveRoute, client: AsyncOpenAI) -> None:
    models = [model.id async for model in client.models.list()]
    assert ADAPTER in models

    async def text(model: str) -> str | None:
        raw = await client.chat.completions.with_raw_response.create(
            model=model, messages=ASKED, max_tokens=16, temperature=0
        )
        assert raw.headers["x-hybridroute-path"] == "slm"
        document = await route.record(raw.headers["x-hybridroute-request-id"], attempts=1)
        assert document["attempts"][0]["model"] == (ADAPTER if model == ADAPTER else "smollm2-135m")
        return raw.parse().choices[0].message.content

    before, adapted, after = await text("slm"), await text(ADAPTER), await text("slm")
    assert before == after
    assert adapted != before


async def test_what_the_engine_refuses_the_llm_serves(
    route: LiveRoute, client: AsyncOpenAI, provider: ScriptedUpstream
) -> None:
    # The estimate takes digits for few tokens; the engine counts them and says that its context is too short.
    long: list[Any] = [{"role": "system", "content": " 7" * 1500}, *ASKED]
    raw = await client.chat.completions.with_raw_response.create(
        model="hybridroute", messages=long, max_tokens=16
    )
    assert raw.headers["x-hybridroute-path"] == "llm"
    assert raw.headers["x-hybridroute-gate"] == "capability"
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="slm", messages=long, max_tokens=16)
    assert refused.value.code == "context_length_exceeded"


async def test_sixteen_streams_at_once(route: LiveRoute, client: AsyncOpenAI) -> None:
    most = 0.0

    async def stream(number: int) -> int:
        chunks = await client.chat.completions.create(
            model="slm",
            messages=[{"role": "user", "content": f"Count from {number}"}],
            max_tokens=48,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        return sum([1 async for chunk in chunks if chunk.choices and chunk.choices[0].delta.content])

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, (await engine_load(route))["vllm:num_requests_running"])
            await asyncio.sleep(0.1)

    watching = asyncio.create_task(watch())
    counts = await asyncio.gather(*(stream(number) for number in range(16)))
    watching.cancel()
    assert most == 16
    assert all(count > 8 for count in counts)


async def none_is_left(route: LiveRoute, client: AsyncOpenAI) -> bool:
    """Say so by a short answer's last step: vLLM sets its gauges when it steps, and has no reason to after an abort."""
    await client.chat.completions.create(model="slm", messages=ASKED, max_tokens=1)
    return await runs(route, 0)


async def test_a_client_that_leaves_frees_its_slot(route: LiveRoute, client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="slm", messages=ASKED, max_tokens=900, stream=True, extra_body={"ignore_eos": True}
    )
    await anext(aiter(stream))
    await route.until(lambda: runs(route, 1))
    left_at = time.monotonic()
    await stream.close()
    await route.until(lambda: none_is_left(route, client), seconds=10)
    assert time.monotonic() - left_at < 10

    unary = asyncio.create_task(
        client.chat.completions.create(
            model="slm", messages=ASKED, max_tokens=900, extra_body={"ignore_eos": True}
        )
    )
    await route.until(lambda: runs(route, 1))
    unary.cancel()
    await route.until(lambda: none_is_left(route, client), seconds=10)


async def test_the_engine_s_load_is_in_the_keepers_metrics(route: LiveRoute, client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="slm", messages=ASKED, max_tokens=900, stream=True, extra_body={"ignore_eos": True}
    )
    await anext(aiter(stream))

    async def seen() -> bool:
        headers = {"authorization": f"Bearer {route.directory.read_metrics_token()}"}
        async with route.session.get(f"{route.url}/keeper/metrics", headers=headers) as answer:
            families = text_string_to_metric_families(await answer.text())
        values = {
            (sample.name, sample.labels.get("state")): sample.value
            for family in families
            for sample in family.samples
        }
        running = values.get(("hybridroute_engine_sequences", "running"))
        return running == 1 and values.get(("hybridroute_engine_cache_use_ratio", None), 0) > 0

    await route.until(seen, seconds=20)
    await stream.close()


async def test_a_replica_whose_engine_dies_is_replaced(route: LiveRoute, client: AsyncOpenAI) -> None:
    [replica] = route.processes("ServeReplica:slm:slm")
    for process in engine_processes(route):
        process.kill()

    async def ended() -> bool:
        return is_gone(replica)

    await route.until(ended)
    await route.until(lambda: serves_locally(client), seconds=600)


async def test_a_replica_that_is_killed_takes_its_engine_along_and_comes_back(
    route: LiveRoute, client: AsyncOpenAI
) -> None:
    engines = engine_processes(route)
    [replica] = route.processes("ServeReplica:slm:slm")
    replica.kill()

    async def gone() -> bool:
        return all(is_gone(process) for process in engines)

    await route.until(gone)
    # The LLM answers meanwhile: no request is lost.
    await route.until(lambda: serves_locally(client), seconds=600)
