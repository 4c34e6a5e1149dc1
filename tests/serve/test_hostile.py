"""What a client may send to do harm, on a route that really runs: it harms nobody else and is told what is wrong.

Each test breaks nothing that the next one needs. The table of all that was tried is `docs/security.md`.
"""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hybridroute_api.facts import RETRY_EXTRA_ATTEMPTS
from support.live_route import LOCAL_PROMPT, REMOTE_PROMPT, LiveRoute
from support.outages import proxy_facts
from support.upstream import ScriptedUpstream, answer_json, chat_answer

SILENCE_SECONDS = 60.0
"""After which the ingress leaves a client that is to send and does not."""
HEARTBEAT_SECONDS = 2.0
USER = {"role": "user", "content": LOCAL_PROMPT}
MALFORMED: list[list[dict[str, Any]]] = [
    [{"role": "assistant", "content": "a", "tool_calls": [{}]}, USER],
    [{"role": "assistant", "content": "a", "tool_calls": "zzz"}, USER],
    [USER | {"name": 5}],
    [USER | {"reasoning_content": 5}],
    [{"role": "user", "content": [{"type": "text"}]}],
    [USER, {"role": "tool", "tool_call_id": 5, "content": "a"}],
]
HEAVY_SCHEMAS: list[dict[str, Any]] = [
    {"enum": [f"v{number}" for number in range(5000)]},
    {"type": "string", "pattern": "^(a?){200}$"},
]
STALLED = {
    "header": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n",
    "body": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
    "chunk": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
    "nothing": b"",
}


@pytest.fixture(autouse=True)
def answers(provider: ScriptedUpstream) -> None:
    provider.default = answer_json(chat_answer())


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def silent_clients(session_route: LiveRoute) -> AsyncIterator[dict[str, asyncio.Task[float]]]:
    """Clients that stop in the middle, from the first test on: each task tells after how long it was left."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(1)
            writer.write(b" ")

    async def wait(sent: bytes, *, dripping: bool) -> float:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port(session_route))
        writer.write(sent)
        drops = asyncio.create_task(drip(writer)) if dripping else None
        try:
            while await reader.read(4096):
                pass
            return time.monotonic() - began
        finally:
            if drops is not None:
                drops.cancel()
            writer.close()

    tasks = {name: asyncio.create_task(wait(sent, dripping=False)) for name, sent in STALLED.items()}
    tasks["dripping body"] = asyncio.create_task(wait(STALLED["body"], dripping=True))
    tasks["dripping header"] = asyncio.create_task(wait(STALLED["header"] + b"x-slow:", dripping=True))
    yield tasks
    for task in tasks.values():
        task.cancel()


def port(route: LiveRoute) -> int:
    return int(route.url.rpartition(":")[2])


async def ask_clean_question(route: LiveRoute) -> None:
    """Another client's banking question is served by the SLM, as if nothing had been."""
    answer = await route.chat(LOCAL_PROMPT, max_tokens=4)
    await answer.read()
    told = (answer.headers["x-hybridroute-path"], answer.headers["x-hybridroute-gate"])
    assert (answer.status, told) == (200, ("slm", "confidence"))


async def extra_attempts(route: LiveRoute) -> int:
    """Attempts that took a retry token, once every replica has had time to say so."""
    await asyncio.sleep(HEARTBEAT_SECONDS)
    return sum(int(facts[RETRY_EXTRA_ATTEMPTS]) for facts in await proxy_facts(route))


async def test_malformed_messages_are_the_requests_fault(route: LiveRoute) -> None:
    await ask_clean_question(route)
    before = await extra_attempts(route)
    for messages in MALFORMED:
        answer = await route.chat("", messages=messages, max_tokens=4)
        await answer.read()
        refused = answer.status == 400
        assert refused or answer.headers["x-hybridroute-gate"] == "capability", messages
    for messages in MALFORMED:
        answer = await route.chat("", model="slm", messages=messages, max_tokens=4)
        assert answer.status == 400, messages
        assert "[json.exception" not in (await answer.json())["error"]["message"]
    await ask_clean_question(route)
    assert await extra_attempts(route) == before


@pytest.mark.parametrize("schema", HEAVY_SCHEMAS, ids=["enumeration", "pattern"])
async def test_a_schema_that_would_hold_everybody_up(route: LiveRoute, schema: dict[str, Any]) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    heavy, _ = await asyncio.gather(
        route.chat(LOCAL_PROMPT, model="slm", response_format=asked), ask_clean_question(route)
    )
    error = (await heavy.json())["error"]
    assert (heavy.status, error["code"], error["param"]) == (400, "not_served_by_slm", "response_format")

    escalated = await route.chat(LOCAL_PROMPT, response_format=asked)
    await escalated.read()
    assert (escalated.status, escalated.headers["x-hybridroute-gate"]) == (200, "capability")
    _, explained, _ = await route.command("explain", escalated.headers["x-hybridroute-request-id"])
    assert "slm cannot serve it: The small model takes" in explained


@pytest.mark.parametrize("model", ["slm", "llm"])
@pytest.mark.parametrize(
    "headers",
    [{f"x-mine-{number}": "x" for number in range(92)}, {"x-mine": "x" * 15_000}],
    ids=["many", "long"],
)
async def test_headers_that_stay_at_the_router(
    route: LiveRoute, provider: ScriptedUpstream, model: str, headers: dict[str, str]
) -> None:
    answer = await route.chat(LOCAL_PROMPT, model=model, headers=headers, max_tokens=4)
    assert answer.status == 200, await answer.read()
    assert not [name for request in provider.requests for name in request.headers if "x-mine" in name]


async def test_headers_too_long_for_a_path_count_against_none(route: LiveRoute) -> None:
    for _ in range(6):
        answer = await route.chat(LOCAL_PROMPT, headers={"tracestate": "x" * 9000})
        assert answer.status == 400
        assert "tracestate" in (await answer.json())["error"]["message"]
    document = await route.record(answer.headers["x-hybridroute-request-id"])
    assert (document["record"]["outcome"], document["attempts"]) == ("client_error", [])
    await ask_clean_question(route)


async def test_serves_steering_headers_do_nothing(route: LiveRoute) -> None:
    headers = {"x-request-timeout-seconds": "0.001", "x-request-disconnect-disabled": "?1"}
    answer = await route.chat(REMOTE_PROMPT, headers=headers)
    assert (answer.status, answer.headers["x-hybridroute-path"]) == (200, "llm"), await answer.read()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/llm/v1/chat/completions", "/slm/v1/completions"])
async def test_a_websocket_is_refused(route: LiveRoute, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port(route))
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        async with asyncio.timeout(30):
            answer = await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()
    assert answer.startswith(b"HTTP/1.1 403 "), answer


async def test_a_body_of_tiny_messages_holds_nobody_up(route: LiveRoute) -> None:
    body = json.dumps({"model": "hybridroute", "messages": [{"role": "u"}] * 700_000}).encode()
    [router] = route.processes("ServeReplica:router")
    usual = max([await seconds_to_health(route) for _ in range(10)])
    cpu_before = sum(router.cpu_times()[:2])
    refusal = asyncio.create_task(
        route.session.post(f"{route.url}/v1/chat/completions", data=io.BytesIO(body))
    )
    waits = []
    while not refusal.done():
        waits.append(await seconds_to_health(route))
    answer = await refusal
    assert answer.status == 400
    assert "2048" in (await answer.json())["error"]["message"]
    assert max(waits) < 3.0 + usual
    assert sum(router.cpu_times()[:2]) - cpu_before < 3.0


async def seconds_to_health(route: LiveRoute) -> float:
    began = time.monotonic()
    async with route.session.get(f"{route.url}/healthz") as answer:
        assert answer.status == 200
    return time.monotonic() - began


@pytest.mark.parametrize(
    "model", ["../../../../etc/passwd", "/llm", "a\r\nx-evil: 1", "slm\x00", "A" * 100_000]
)
async def test_a_models_name_leads_nowhere(route: LiveRoute, provider: ScriptedUpstream, model: str) -> None:
    answer = await route.chat(LOCAL_PROMPT, model=model)
    assert (answer.status, (await answer.json())["error"]["code"]) == (404, "model_not_found")
    assert "x-evil" not in answer.headers
    assert len(await answer.read()) < 500
    assert provider.attempts == 0


async def test_a_url_in_a_message_is_fetched_by_nobody(route: LiveRoute, provider: ScriptedUpstream) -> None:
    url = f"{provider.base_url}/fetched"
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = await route.chat("", model="slm", messages=[{"role": "user", "content": parts}])
    assert (answer.status, (await answer.json())["error"]["code"]) == (400, "not_served_by_slm")
    headers = {"host": "evil.example", "x-forwarded-host": "evil.example", "x-forwarded-for": "169.254.1.1"}
    answer = await route.chat(REMOTE_PROMPT, headers=headers)
    assert answer.status == 200
    assert [request.path for request in provider.requests] == ["/v1/chat/completions"]
    assert "evil.example" not in str(provider.requests[0].headers)


async def test_two_lengths_are_one_request(route: LiveRoute) -> None:
    """A request hidden behind another's body is never served, whichever length is believed."""
    hidden = b"GET /-/routes HTTP/1.1\r\nhost: x\r\n\r\n"
    for length in (
        b"content-length: 6\r\ntransfer-encoding: chunked",
        b"content-length: 0\r\ncontent-length: 6",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port(route))
        try:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + length
            writer.write(head + b"\r\n\r\n0\r\n\r\n" + hidden)
            async with asyncio.timeout(30):
                answer = await reader.read()
        finally:
            writer.close()
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"router" not in answer


async def test_deep_and_compressed_bodies(route: LiveRoute) -> None:
    deep = b'{"model":"hybridroute","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    cases: list[tuple[bytes, dict[str, str], int]] = [
        (deep, {}, 400),
        (b"\x1f\x8b\x08\x00", {"content-encoding": "gzip"}, 415),
        (b'{"model":"slm","messages":[{"role":"user","content":"x"}],"user":"\xff"}', {}, 400),
        (b" " * (17 << 20), {}, 413),
    ]
    for body, headers, status in cases:
        answer = await route.session.post(
            f"{route.url}/v1/chat/completions", data=io.BytesIO(body), headers=headers
        )
        assert answer.status == status, await answer.read()
        assert (await answer.json())["error"]["type"] == "invalid_request_error"
    await ask_clean_question(route)


async def test_clients_that_fall_silent_are_left(silent_clients: dict[str, asyncio.Task[float]]) -> None:
    """Last, so that the minute is spent on the other tests. An unfinished request is waited for that long once."""
    async with asyncio.timeout(3 * SILENCE_SECONDS):
        seconds = dict(zip(silent_clients, await asyncio.gather(*silent_clients.values()), strict=True))
    assert all(waited >= SILENCE_SECONDS - 1 for waited in seconds.values()), seconds
