"""The caller's own deadline: read, passed on, and kept."""

import asyncio
import json

import pytest
from aiohttp import web

from hybridroute_api.serving import LlmPolicy, UpstreamTimeouts
from hybridroute_api.vocabulary import Gate, InternalHeader, Outcome, PathName
from hybridroute_serve.router.backends import RESTART_SECONDS
from hybridroute_serve.router.patience import Patience, path_seconds, read_patience
from hybridroute_serve.routing.route_decision import RouteDecision
from hybridroute_serve.wire.errors import InvalidRequest
from support.path_apps import sse
from support.policies import a_policy, a_retry_policy, an_upstream
from support.router_bench import CARD, SONNET, streaming

SLM, LLM = PathName.SLM, PathName.LLM


def waiting(seconds: str) -> dict[str, str]:
    return {"x-request-timeout": seconds}


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@pytest.mark.parametrize(("text", "seconds"), [("10", 10.0), ("0.25", 0.25), (" 3 ", 3.0), ("1e1", 10.0)])
def test_seconds_are_read(text, seconds):
    scope = {"headers": [(b"x-request-timeout", text.encode())]}

    assert read_patience(scope, 100.0) == Patience(seconds, 100.0 + seconds)
    assert read_patience({"headers": []}, 100.0) is None


def test_what_is_left_is_never_negative():
    patience = Patience(2.0, 102.0)

    assert [patience.seconds_left(now) for now in (100.0, 101.5, 102.0, 500.0)] == [2.0, 0.5, 0.0, 0.0]


BAD = ["", "soon", "-1", "0", "nan", "inf", "-inf", "1_0", "86401", "10s", "1,5", "0x10", "9" * 400, "\xb2"]


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused(text):
    with pytest.raises(InvalidRequest) as caught:
        read_patience({"headers": [(b"x-request-timeout", text.encode("latin-1"))]}, 0.0)
    assert caught.value.param == "x-request-timeout"


@pytest.mark.parametrize(
    ("path", "fallbacks", "stream", "seconds"),
    [
        (SLM, (LLM,), True, 5.0 + 1),
        (SLM, (LLM,), False, 10.0 + 1),
        (SLM, (), True, 5.0 + 1 + RESTART_SECONDS),
        (LLM, (SLM,), True, 40.0 + 1),
        (LLM, (SLM,), False, 40.0 + 1),
        (LLM, (), False, 40.0 + 1 + RESTART_SECONDS),
    ],
)
def test_the_router_waits_a_little_longer_than_the_path_may_take(path, fallbacks, stream, seconds):
    slow = UpstreamTimeouts(connect_seconds=1, first_byte_seconds=2, total_seconds=40)
    upstreams = (an_upstream(), an_upstream("second", timeouts=slow))
    policy = a_policy(llm=LlmPolicy(upstreams=upstreams, retries=a_retry_policy()))
    decision = RouteDecision(path, Gate.CONFIDENCE, "why", fallbacks=fallbacks)

    assert path_seconds(decision, policy, stream=stream) == seconds


async def test_a_bad_deadline_is_400_and_nothing_is_sent(bench):
    answer = await bench.chat(CARD, waiting("soon"))

    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "invalid_request", "x-request-timeout")
    assert bench.ledger.record.outcome is Outcome.CLIENT_ERROR
    assert not bench.paths.seen


@pytest.mark.parametrize("text", [CARD, SONNET])
async def test_what_is_left_is_passed_on_and_no_more_than_the_spec_allows(bench, text):
    await bench.chat(text, waiting("7"))
    await bench.chat(text, waiting("86400"))
    await bench.chat(text)

    short, long, none = (headers.get(InternalHeader.DEADLINE_SECONDS) for _, headers, _ in bench.paths.seen)
    assert 0 < float(short) <= 7
    assert 7 < float(long) < 86_400 / 2
    assert none is None


async def test_a_client_cannot_set_what_the_router_tells_the_path(bench):
    await bench.chat(CARD, {InternalHeader.DEADLINE_SECONDS: "1"})

    assert InternalHeader.DEADLINE_SECONDS not in bench.paths.seen[0][1]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_path_that_is_slower_than_the_deadline_is_504_and_nothing_else_is_tried(bench, stream):
    bench.paths.handlers[SLM] = hang

    answer = await bench.chat(CARD, waiting("0.2"), stream=stream)

    assert (answer.status, answer.json()["error"]["code"]) == (504, "timeout")
    assert answer.headers["x-should-retry"] == "false"
    assert bench.asked == [SLM]
    await asyncio.wait_for(bench.paths.closed.wait(), 5)
    assert bench.ledger.record.outcome is Outcome.TIMEOUT


async def test_a_callers_haste_does_not_count_against_the_slm(bench):
    bench.paths.handlers[SLM] = hang
    for _ in range(6):
        await bench.chat(CARD, waiting("0.02"))

    bench.paths.handlers[SLM] = streaming([sse("hi")])
    answer = await bench.chat(CARD)

    assert answer.headers["x-hybridroute-path"] == "slm"


async def test_a_stream_that_outlasts_the_deadline_ends_in_an_error_event(bench):
    bench.paths.handlers[SLM] = streaming([sse("a")], then="hang")

    answer = await bench.chat(CARD, waiting("0.3"), stream=True)

    assert answer.status == 200
    assert answer.body.startswith(sse("a"))
    assert b'"code":"timeout"' in answer.body
    assert b"[DONE]" not in answer.body
    assert answer.ended
    record = bench.ledger.record
    assert (record.outcome, record.error_code) == (Outcome.CUT, "timeout")
    await asyncio.wait_for(bench.paths.closed.wait(), 5)


async def test_a_reader_that_is_slow_at_the_end_has_had_its_stream(bench):
    whole, ends = sse("a") + b"data: [DONE]\n\n", asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(whole)
        await ends.wait()
        return response

    bench.paths.handlers[SLM] = handle
    body = json.dumps(
        {"model": "hybridroute", "stream": True, "messages": [{"role": "user", "content": CARD}]}
    ).encode()
    task, answer, progressed = bench.client.start("POST", "/v1/chat/completions", body, waiting("0.5"))
    while not answer.chunks:
        await progressed.wait()
        progressed.clear()
    bench.client.reading = asyncio.Event()
    ends.set()
    await asyncio.sleep(0.7)
    bench.client.reading.set()
    await task

    assert answer.body == whole
    assert (bench.ledger.record.outcome, bench.ledger.record.error_code) == (Outcome.OK, None)
