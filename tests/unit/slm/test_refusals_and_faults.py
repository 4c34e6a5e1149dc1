"""What the SLM application refuses by itself, and what it makes of an engine that fails. The engine is scripted."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hybridroute_api.vocabulary import ErrorCode, InternalHeader, Outcome, UsageSource
from support.slm import ScriptedEngine, SlmBench, chat, running_slm
from support.upstream import (
    DONE,
    Script,
    ScriptedUpstream,
    answer_status,
    closed_port,
    content_event,
    finish_event,
    hang_after_headers,
    hang_before_headers,
    reset_after_headers,
    reset_before_answer,
    role_event,
    running_upstream,
    stream,
    stream_cut,
    stream_reset,
    stream_then_hang,
    usage_event,
)

CHAT = "/v1/chat/completions"
GOOD = [role_event(), content_event("hi"), finish_event(), usage_event(10, 2), DONE]
ERROR_EVENT = b'data: {"error":{"code":500,"message":"x","type":"server_error"}}\n\n'

Bench = tuple[SlmBench, ScriptedUpstream]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running_upstream() as upstream:
        engine = ScriptedEngine(upstream.base_url.removesuffix("/v1"))
        async with running_slm(engine, first_byte_seconds=0.3, total_seconds=0.6) as slm:
            yield slm, upstream


async def test_the_path_is_closed_to_who_has_no_token(bench: Bench) -> None:
    slm, upstream = bench
    none: dict[str, str] = {}
    for headers in (none, slm.headers(**{InternalHeader.TOKEN: "guessed"})):
        refused = await slm.client.post(CHAT, chat(), headers)
        assert refused.status == 401
        assert refused.json()["error"]["code"] == ErrorCode.UNAUTHORIZED_INTERNAL
        assert refused.headers[InternalHeader.FAILURE] == Outcome.REJECTED
    assert upstream.attempts == 0


async def test_health_needs_no_token(bench: Bench) -> None:
    slm, _ = bench
    assert (await slm.client.request("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CHAT, 405, ErrorCode.METHOD_NOT_ALLOWED),
        ("POST", "/v1/embeddings", 404, ErrorCode.NOT_SUPPORTED),
        ("GET", "/metrics", 404, ErrorCode.NOT_SUPPORTED),
    ],
)
async def test_other_routes_say_what_there_is(
    bench: Bench, method: str, path: str, status: int, code: ErrorCode
) -> None:
    slm, _ = bench
    refused = await slm.client.request(method, path, headers=slm.headers())
    assert (refused.status, refused.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("question", "param", "code"),
    [
        (chat(n=5), "n", ErrorCode.NOT_SERVED_BY_SLM),
        (chat(tools=[{"type": "function"}]), "tools", ErrorCode.NOT_SERVED_BY_SLM),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages",
            ErrorCode.NOT_SERVED_BY_SLM,
        ),
        (chat(modalities=["text", "audio"]), "modalities", ErrorCode.NOT_SERVED_BY_SLM),
        (chat(web_search_options={}), "web_search_options", ErrorCode.NOT_SERVED_BY_SLM),
        (chat(top_k=100_000), "top_k", ErrorCode.NOT_SERVED_BY_SLM),
        (chat(temperature=99), "temperature", ErrorCode.INVALID_REQUEST),
        (chat(stop={"a": 1}), "stop", ErrorCode.INVALID_REQUEST),
        ({"model": "m"}, "messages", ErrorCode.INVALID_REQUEST),
    ],
)
async def test_what_the_engine_cannot_serve_never_reaches_it(
    bench: Bench, question: dict[str, Any], param: str, code: ErrorCode
) -> None:
    slm, upstream = bench
    refused = await slm.client.post(CHAT, question, slm.headers())
    assert refused.status == 400
    error = refused.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert refused.headers[InternalHeader.FAILURE] == Outcome.CLIENT_ERROR
    assert upstream.attempts == 0
    assert slm.ledger.opened == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("best_of", 2),
        ("echo", True),
        ("logprobs", 0),
        ("suffix", "!"),
        ("response_format", {"type": "json_object"}),
    ],
)
async def test_what_the_engine_would_ignore_in_completions_never_reaches_it(
    bench: Bench, option: str, value: object
) -> None:
    slm, upstream = bench
    question = {"model": "m", "prompt": "Once", option: value}
    refused = await slm.client.post("/v1/completions", question, slm.headers())
    assert refused.status == 400
    error = refused.json()["error"]
    assert (error["param"], error["code"]) == (option, ErrorCode.NOT_SERVED_BY_SLM)
    assert refused.headers[InternalHeader.FAILURE] == Outcome.CLIENT_ERROR
    assert upstream.attempts == 0


async def test_tools_reach_an_engine_whose_template_knows_them() -> None:
    async with running_upstream() as upstream:
        upstream.default = stream(GOOD)
        engine = ScriptedEngine(upstream.base_url.removesuffix("/v1"), tools=True)
        async with running_slm(engine) as slm:
            tools = [{"type": "function", "function": {"name": "f"}}]
            answer = await slm.client.post(CHAT, chat(tools=tools), slm.headers())
            assert answer.status == 200
            assert upstream.requests[0].json()["tools"] == tools


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
async def test_a_body_that_is_no_request(bench: Bench, body: bytes) -> None:
    slm, upstream = bench
    refused = await slm.client.request("POST", CHAT, body, slm.headers())
    assert refused.status == 400
    assert upstream.attempts == 0


async def test_a_request_without_an_id_cannot_be_recorded(bench: Bench) -> None:
    slm, _ = bench
    headers = slm.headers()
    del headers[InternalHeader.REQUEST_ID]
    assert (await slm.client.post(CHAT, chat(), headers)).status == 400


async def test_a_request_that_waits_longer_than_it_may_goes_elsewhere() -> None:
    async with running_upstream() as upstream:
        upstream.default = hang_before_headers
        engine = ScriptedEngine(upstream.base_url.removesuffix("/v1"))
        async with running_slm(engine, parallel_sequences=1, first_byte_seconds=0.2) as slm:
            first, _, _ = slm.client.start("POST", CHAT, json.dumps(chat()).encode(), slm.headers("hr-1"))
            await upstream.wait_until(lambda seen: seen.attempts == 1)
            waiting = await slm.client.post(CHAT, chat(), slm.headers("hr-2"))
            await first
            assert waiting.status in (429, 504)
            assert waiting.headers[InternalHeader.FAILURE] in (Outcome.THROTTLED, Outcome.TIMEOUT)
            assert slm.admission.ongoing == 0


BEFORE_THE_COMMIT: list[tuple[str, Script, Outcome, int]] = [
    ("reset before an answer", reset_before_answer, Outcome.UPSTREAM_ERROR, 503),
    ("reset after the headers", reset_after_headers, Outcome.UPSTREAM_ERROR, 503),
    ("silence before the headers", hang_before_headers, Outcome.TIMEOUT, 504),
    ("silence after the headers", hang_after_headers, Outcome.TIMEOUT, 504),
    ("500", answer_status(500), Outcome.UPSTREAM_ERROR, 503),
    ("an error event at once", stream([role_event(), ERROR_EVENT]), Outcome.UPSTREAM_ERROR, 503),
    ("an end without content", stream([role_event()]), Outcome.UPSTREAM_ERROR, 503),
]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("script", "outcome", "status"),
    [case[1:] for case in BEFORE_THE_COMMIT],
    ids=[c[0] for c in BEFORE_THE_COMMIT],
)
async def test_a_failure_before_the_commit_can_be_made_good(
    bench: Bench, script: Script, outcome: Outcome, status: int, streamed: bool
) -> None:
    slm, upstream = bench
    upstream.default = script
    answer = await slm.client.post(CHAT, chat(stream=streamed), slm.headers())
    assert answer.status == status
    assert answer.headers[InternalHeader.FAILURE] == outcome
    assert slm.ledger.report.outcome is outcome
    assert slm.busy.inflight == slm.admission.ongoing == 0


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_engine_that_is_gone(streamed: bool) -> None:
    async with running_slm(ScriptedEngine(f"http://127.0.0.1:{closed_port()}")) as slm:
        answer = await slm.client.post(CHAT, chat(stream=streamed), slm.headers())
        assert answer.status == 503
        assert answer.headers[InternalHeader.FAILURE] == Outcome.UPSTREAM_ERROR
        report = slm.ledger.report
        assert (report.outcome, report.status) == (Outcome.UPSTREAM_ERROR, None)
        assert report.usage.source is UsageSource.NONE


PIECES = [role_event(), content_event("one "), content_event("two ")]
AFTER_THE_COMMIT: list[tuple[str, Script, Outcome]] = [
    ("a cut", stream_cut(PIECES), Outcome.UPSTREAM_ERROR),
    ("a reset", stream_reset(PIECES), Outcome.UPSTREAM_ERROR),
    ("silence", stream_then_hang(PIECES), Outcome.TIMEOUT),
    ("an error event", stream([*PIECES, ERROR_EVENT]), Outcome.UPSTREAM_ERROR),
]


@pytest.mark.parametrize(
    ("script", "outcome"), [case[1:] for case in AFTER_THE_COMMIT], ids=[c[0] for c in AFTER_THE_COMMIT]
)
async def test_a_stream_that_breaks_after_the_commit_ends_in_an_error(
    bench: Bench, script: Script, outcome: Outcome
) -> None:
    slm, upstream = bench
    upstream.default = script
    answer = await slm.client.post(CHAT, chat(stream=True), slm.headers())
    assert answer.status == 200
    assert b"one " in answer.body
    assert b'"error"' in answer.body
    assert b"[DONE]" not in answer.body
    report = slm.ledger.report
    assert report.outcome is Outcome.CUT
    assert report.usage.completion_tokens > 0


@pytest.mark.parametrize(
    ("script", "outcome"), [case[1:] for case in AFTER_THE_COMMIT], ids=[c[0] for c in AFTER_THE_COMMIT]
)
async def test_a_unary_answer_that_breaks_off_is_a_failure_that_can_be_made_good(
    bench: Bench, script: Script, outcome: Outcome
) -> None:
    slm, upstream = bench
    upstream.default = script
    answer = await slm.client.post(CHAT, chat(), slm.headers())
    assert answer.status == (504 if outcome is Outcome.TIMEOUT else 503)
    assert answer.headers[InternalHeader.FAILURE] == outcome
    assert "one" not in answer.body.decode()
    assert slm.ledger.report.outcome is Outcome.CUT


async def test_a_unary_answer_with_an_unreadable_event_is_a_failure(bench: Bench) -> None:
    slm, upstream = bench
    upstream.default = stream([content_event("one "), b"data: nonsense\n\n", finish_event(), DONE])
    answer = await slm.client.post(CHAT, chat(), slm.headers())
    assert answer.status == 503
    assert answer.headers[InternalHeader.FAILURE] == Outcome.UPSTREAM_ERROR


async def test_an_answer_that_comes_a_byte_at_a_time_is_the_same(bench: Bench) -> None:
    slm, upstream = bench
    upstream.default = stream(GOOD)
    whole = await slm.client.post(CHAT, chat(), slm.headers("hr-1"))
    upstream.default = stream([bytes([byte]) for byte in b"".join(GOOD)])
    bytewise = await slm.client.post(CHAT, chat(), slm.headers("hr-2"))
    assert whole.status == bytewise.status == 200
    assert whole.body == bytewise.body
    assert whole.json()["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_closes_the_connection_to_the_engine(bench: Bench, streamed: bool) -> None:
    slm, upstream = bench
    upstream.default = hang_before_headers
    body = json.dumps(chat(stream=streamed)).encode()
    leaving, _, _ = slm.client.start("POST", CHAT, body, slm.headers())
    await upstream.wait_until(lambda seen: seen.attempts == 1)
    leaving.cancel()
    await asyncio.wait({leaving})
    await upstream.wait_until(lambda seen: seen.open_connections == 0)
    assert slm.ledger.report.outcome is Outcome.CANCELLED
    assert slm.busy.inflight == slm.admission.ongoing == 0
