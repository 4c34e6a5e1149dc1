"""The fault table: what a client sees, what is recorded, and that nothing leaks, on a route that really runs."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from serve.conftest import FAST
from support.live_route import LOCAL_PROMPT, LONG_ANSWER, REMOTE_PROMPT, LiveRoute
from support.routes import merged
from support.upstream import (
    Script,
    ScriptedUpstream,
    answer_json,
    answer_status,
    chat_answer,
    closed_port,
    content_event,
    event,
    finish_event,
    hang_before_headers,
    reset_before_answer,
    role_event,
    stream,
    stream_cut,
    stream_then_hang,
    usage_event,
)

ONE_ATTEMPT = merged(FAST, {"spec": {"llm": {"retryBudget": {"maxAttempts": 1}}}})
"""What one failure does is seen best when nothing is tried again."""

STREAM = [
    role_event(),
    content_event("Hello"),
    content_event(" there"),
    finish_event(),
    usage_event(),
    b"data: [DONE]\n\n",
]
NO_USAGE = [role_event(), content_event("Hello"), finish_event(), b"data: [DONE]\n\n"]
ERROR_EVENT = [role_event(), event({"error": {"message": "overloaded", "type": "server_error"}})]
HUGE = "x" * (1 << 20)


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def one_attempt(session_route: LiveRoute) -> AsyncIterator[None]:
    await session_route.change(ONE_ATTEMPT)
    yield
    await session_route.change(FAST)


async def settled(provider: ScriptedUpstream) -> None:
    """The provider's connections are idle ones of the pool, which closes them within seconds."""
    await provider.wait_until(lambda upstream: upstream.open_connections == 0, seconds=15)


@pytest.mark.parametrize(
    ("script", "streamed", "status", "code", "outcome"),
    [
        (reset_before_answer, False, 503, "path_unavailable", "upstream_error"),
        (hang_before_headers, True, 504, "timeout", "timeout"),
        (answer_status(429, {"retry-after": "7"}), False, 429, "upstream_throttled", "throttled"),
        (answer_status(500), False, 503, "path_unavailable", "upstream_error"),
        (answer_status(502), True, 503, "path_unavailable", "upstream_error"),
        (answer_status(503), False, 503, "path_unavailable", "upstream_error"),
        (answer_status(529), True, 503, "path_unavailable", "throttled"),
        (stream(ERROR_EVENT), True, 503, "path_unavailable", "upstream_error"),
        (answer_json(None, raw=b"{not json"), False, 503, "path_unavailable", "upstream_error"),
    ],
    ids=["reset", "hang", "429", "500", "502", "503", "529", "error-event", "invalid-json"],
)
async def test_upstream_fails_before_content(  # noqa: PLR0917 - one parameter a column of the table
    route: LiveRoute,
    provider: ScriptedUpstream,
    script: Script,
    streamed: bool,
    status: int,
    code: str,
    outcome: str,
) -> None:
    provider.scripts.append(script)
    answer = await route.chat(REMOTE_PROMPT, stream=streamed)
    body = await answer.json()

    assert (answer.status, body["error"]["code"]) == (status, code)
    document = await route.record(answer.headers["x-hybridroute-request-id"], attempts=1)
    assert document["record"]["outcome"] == outcome
    assert document["record"]["status"] == status
    assert [attempt["outcome"] for attempt in document["attempts"]] == [outcome]
    assert provider.attempts == 1
    await settled(provider)


async def test_upstream_refuses(route: LiveRoute, provider: ScriptedUpstream) -> None:
    route.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{closed_port()}/v1"
    try:
        await route.change(ONE_ATTEMPT)
        answer = await route.chat(REMOTE_PROMPT)
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "path_unavailable")
        document = await route.record(answer.headers["x-hybridroute-request-id"], attempts=1)
        assert document["attempts"][0]["usage"]["source"] == "none"
        assert document["cost_usd"] == "0.000000000"
    finally:
        route.environ["OPENAI_BASE_URL"] = provider.base_url
        await route.change(ONE_ATTEMPT)


async def test_upstream_cuts_the_stream(route: LiveRoute, provider: ScriptedUpstream) -> None:
    provider.scripts.append(stream_cut(STREAM[:3]))
    answer = await route.chat(REMOTE_PROMPT, stream=True)
    body = await answer.read()

    assert answer.status == 200
    assert b"Hello" in body
    assert b"[DONE]" not in body
    last = [part for part in body.split(b"\n\n") if part][-1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "stream_cut"
    document = await route.record(answer.headers["x-hybridroute-request-id"], attempts=1)
    assert document["record"]["outcome"] == "cut"
    assert document["attempts"][0]["outcome"] == "cut"
    assert document["attempts"][0]["usage"]["source"] == "estimated"
    assert document["attempts"][0]["cost_nano_usd"] > 0
    await settled(provider)


async def test_upstream_sends_no_usage(route: LiveRoute, provider: ScriptedUpstream) -> None:
    provider.scripts.append(stream(NO_USAGE))
    answer = await route.chat(REMOTE_PROMPT, stream=True)
    assert b"[DONE]" in await answer.read()

    document = await route.record(answer.headers["x-hybridroute-request-id"], attempts=1)
    assert document["record"]["outcome"] == "ok"
    (attempt,) = document["attempts"]
    assert attempt["usage"]["source"] == "estimated"
    assert attempt["usage"]["completion_tokens"] > 0


async def test_upstream_sends_a_mebibyte_in_one_chunk(route: LiveRoute, provider: ScriptedUpstream) -> None:
    chunks = [content_event(HUGE) + finish_event() + usage_event(100, 7) + b"data: [DONE]\n\n"]
    provider.scripts.append(stream(chunks))
    answer = await route.chat(REMOTE_PROMPT, stream=True)
    body = await answer.read()

    assert HUGE.encode() in body
    assert b'"usage": {' not in body, "the client did not ask for the usage chunk"
    document = await route.record(answer.headers["x-hybridroute-request-id"], attempts=1)
    assert document["attempts"][0]["usage"]["completion_tokens"] == 7


async def test_cost_is_recorded_exactly_once(route: LiveRoute, provider: ScriptedUpstream) -> None:
    before = await route.keeper("/costs")
    provider.scripts.append(answer_json(chat_answer()))
    answer = await route.chat(REMOTE_PROMPT)
    await answer.read()
    document = await route.record(answer.headers["x-hybridroute-request-id"], attempts=1)
    after = await route.keeper("/costs")

    assert answer.headers["x-hybridroute-cost-usd"] == document["cost_usd"]
    grown = _nano(after["paths"]["llm"]["usd"]) - _nano(before["paths"]["llm"]["usd"])
    assert grown == _nano(document["cost_usd"]) > 0
    assert after["paths"]["llm"]["requests"] == before["paths"]["llm"]["requests"] + 1


def _nano(usd: str) -> int:
    dollars, _, rest = usd.partition(".")
    return int(dollars) * 10**9 + int(rest.ljust(9, "0"))


async def test_client_leaves_an_llm_stream(route: LiveRoute, provider: ScriptedUpstream) -> None:
    provider.scripts.append(stream_then_hang(STREAM[:2]))
    answer = await route.chat(REMOTE_PROMPT, stream=True)
    await answer.content.readany()
    request_id = answer.headers["x-hybridroute-request-id"]
    left = time.monotonic()
    answer.close()
    await provider.wait_until(lambda upstream: upstream.clients_gone == 1, seconds=5)

    assert time.monotonic() - left < 1.0, "upstream work goes on for a second after the client left"
    document = await route.record(request_id, attempts=1)
    assert document["record"]["outcome"] == "cancelled"
    (attempt,) = document["attempts"]
    assert attempt["outcome"] == "cancelled"
    assert attempt["usage"]["source"] == "estimated"
    await settled(provider)


async def test_client_leaves_an_slm_stream(route: LiveRoute) -> None:
    answer = await route.chat(LOCAL_PROMPT, stream=True, **LONG_ANSWER)
    assert answer.headers["x-hybridroute-path"] == "slm"
    await answer.content.readany()
    request_id = answer.headers["x-hybridroute-request-id"]
    answer.close()

    document = await route.record(request_id, attempts=1)
    assert document["record"]["outcome"] == "cancelled"
    (attempt,) = document["attempts"]
    assert attempt["outcome"] == "cancelled"
    assert attempt["usage"]["completion_tokens"] < LONG_ANSWER["max_tokens"]

    async def idle() -> bool:
        state = await route.keeper("/state")
        return all(replica["ongoing"] == 0 for replica in state["replicas"]["slm"])

    await route.until(idle)


@pytest.mark.parametrize("body_bytes", [0, 40_000])
async def test_client_leaves_before_the_llm_answers(
    route: LiveRoute, provider: ScriptedUpstream, body_bytes: int
) -> None:
    provider.scripts.append(hang_before_headers)
    async with asking_in_two_pieces(route, "llm", body_bytes):
        await provider.wait_until(lambda upstream: len(upstream.requests) == 1, seconds=5)
    left = time.monotonic()
    await provider.wait_until(lambda upstream: upstream.clients_gone == 1, seconds=5)

    assert time.monotonic() - left < 1.0, "upstream work goes on for a second after the client left"
    await settled(provider)


async def test_client_leaves_before_the_slm_answers(route: LiveRoute) -> None:
    async def ongoing(requests: int) -> bool:
        state = await route.keeper("/state")
        return sum(replica["ongoing"] for replica in state["replicas"]["slm"]) == requests

    async with asking_in_two_pieces(route, "slm", 0, **LONG_ANSWER):
        await route.until(lambda: ongoing(1))
    await route.until(lambda: ongoing(0), seconds=5)


@asynccontextmanager
async def asking_in_two_pieces(
    route: LiveRoute, model: str, body_bytes: int, **fields: Any
) -> AsyncIterator[None]:
    """Send head and body apart, as httpx does, after a short request on the same connection; leave at the end."""
    host, port = route.url.removeprefix("http://").split(":")
    asked = {"model": model, "messages": [{"role": "user", "content": LOCAL_PROMPT + " " * body_bytes}]}
    body = json.dumps(asked | fields).encode()
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length is not None
        await reader.readexactly(int(length[1]))
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(body)
        await writer.drain()
        yield
    finally:
        writer.close()


async def test_llm_down_in_scope_goes_to_the_slm_and_says_so(
    route: LiveRoute, provider: ScriptedUpstream
) -> None:
    # A threshold that nothing reaches sends in-scope requests to the LLM by confidence.
    await route.change(merged(ONE_ATTEMPT, {"spec": {"routing": {"confidence": {"threshold": "1"}}}}))
    try:
        provider.scripts.append(answer_status(500))
        answer = await route.chat(LOCAL_PROMPT)
        assert answer.status == 200
        assert answer.headers["x-hybridroute-path"] == "slm"
        assert answer.headers["x-hybridroute-gate"] == "health"
        document = await route.record(answer.headers["x-hybridroute-request-id"], attempts=2)
        assert document["record"]["failed_over_from"] == "llm"
    finally:
        await route.change(ONE_ATTEMPT)


async def test_internal_paths_need_the_token(route: LiveRoute) -> None:
    body = {"model": "x", "messages": [{"role": "user", "content": "hi"}]}
    for path in ("/llm/v1/chat/completions", "/slm/v1/chat/completions", "/keeper/internal/batch"):
        for headers in ({}, {"x-hybridroute-internal-token": "guess"}):
            async with route.session.post(route.url + path, json=body, headers=headers) as answer:
                assert answer.status == 401, path
                assert "error" in await answer.json()
    for path in ("/keeper/state", "/keeper/records", "/keeper/costs", "/keeper/metrics"):
        async with route.session.get(route.url + path) as answer:
            assert answer.status == 401, path


async def test_five_hundred_concurrent_streams(route: LiveRoute, provider: ScriptedUpstream) -> None:
    gate = asyncio.Event()

    async def hold(number: int) -> None:
        if number == 2:
            await gate.wait()

    await route.change(
        merged(
            ONE_ATTEMPT,
            {"spec": {"llm": {"upstreams": [{"timeouts": {"firstByte": "30s", "total": "60s"}}]}}},
        )
    )
    provider.scripts.extend(stream(STREAM, before_each=hold) for _ in range(500))
    since = time.time()

    async def one() -> tuple[int, bytes]:
        answer = await route.chat(REMOTE_PROMPT, stream=True)
        return answer.status, await answer.read()

    tasks = [asyncio.create_task(one()) for _ in range(500)]
    await provider.wait_until(lambda upstream: upstream.attempts == 500, seconds=60)
    gate.set()
    answers = await asyncio.gather(*tasks)

    assert {status for status, _ in answers} == {200}
    assert all(b"[DONE]" in body for _, body in answers)

    async def all_recorded() -> bool:
        return len(await route.records_since(since)) == 500

    await route.until(all_recorded)
    assert {record["outcome"] for record in await route.records_since(since)} == {"ok"}
    await settled(provider)
    await route.change(ONE_ATTEMPT)
