"""The fault table of the LLM path: for each fault its status, what the client sees, one report, nothing leaked.

Upstreams are real sockets; the client is cancelled as Ray Serve cancels it.
"""

import asyncio
import json
from typing import Any

import pytest

from hybridroute_api.records import TokenUsage
from hybridroute_api.serving import UpstreamTimeouts
from hybridroute_api.vocabulary import ErrorCode, Header, InternalHeader, Outcome, UsageSource
from support.asgi_client import AsgiAnswer
from support.attempts import ProxyBench
from support.policies import an_upstream
from support.upstream import (
    DONE,
    Script,
    ScriptedUpstream,
    answer_json,
    answer_status,
    chat_answer,
    closed_port,
    content_event,
    event,
    finish_event,
    hang_after_headers,
    hang_before_headers,
    reset_after_headers,
    reset_before_answer,
    role_event,
    stream,
    stream_cut,
    stream_reset,
    stream_then_hang,
    usage_event,
)

MESSAGES = [{"role": "user", "content": "write a sonnet about the sea"}]
PROMPT_ESTIMATE = 11
IMPATIENT = UpstreamTimeouts(connect_seconds=1.0, first_byte_seconds=0.4, total_seconds=1.2)
USAGE = TokenUsage(100, 20, source=UsageSource.REPORTED)
USAGE_COST = 100 * 2_500 + 20 * 10_000
ERROR_EVENT = event({"error": {"message": "the provider is on fire", "type": "server_error"}})
HELLO = (role_event(), content_event("Hello"), content_event(" there"))


async def ask(bench: ProxyBench, **fields: Any) -> AsgiAnswer:
    body = {"model": "hybridroute", "messages": MESSAGES, **fields}
    return await bench.client.post("/v1/chat/completions", body, bench.headers())


def events_of(answer: AsgiAnswer) -> list[Any]:
    """What an SSE client reads: JSON documents, and `[DONE]` as it is."""
    assert answer.body.endswith(b"\n\n")
    datas = [part.removeprefix(b"data: ") for part in answer.body.split(b"\n\n") if part]
    return ["[DONE]" if data == b"[DONE]" else json.loads(data) for data in datas]


def text_of(answer: AsgiAnswer) -> str:
    deltas = [e["choices"][0]["delta"] for e in events_of(answer) if e != "[DONE]" and e.get("choices")]
    return "".join(delta.get("content", "") for delta in deltas)


async def test_a_unary_answer(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = answer_json(chat_answer(), headers={"X-Request-Id": "req_9", "Set-Cookie": "a=b"})

    answer = await ask(bench)

    assert answer.status == 200
    assert answer.json() == chat_answer()
    assert answer.headers[InternalHeader.COST_NANO_USD] == str(USAGE_COST)
    assert answer.headers[InternalHeader.UPSTREAM] == "primary"
    assert answer.headers[Header.UPSTREAM_REQUEST_ID] == "req_9"
    assert "set-cookie" not in answer.headers
    report = bench.ledger.report
    assert report.attempt_id == "hr-1/llm/1"
    assert report.outcome is Outcome.OK
    assert report.usage == USAGE
    assert report.cost_nano_usd == USAGE_COST
    assert report.status == 200
    assert report.gate == "confidence"
    assert report.model == "big"
    assert report.first_byte_seconds is not None


async def test_a_stream(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = stream([*HELLO, finish_event(), usage_event(), DONE])

    answer = await ask(bench, stream=True)

    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body == b"".join([*HELLO, finish_event(), DONE])
    assert answer.chunks[-1].endswith(DONE), "the stream's end is no message of its own"
    assert bench.ledger.report.outcome is Outcome.OK
    assert bench.ledger.report.usage == USAGE
    assert bench.ledger.report.cost_nano_usd == USAGE_COST
    assert upstream.requests[0].json()["stream_options"] == {"include_usage": True}


async def test_the_usage_chunk_reaches_a_client_that_asked_for_it(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.default = stream([*HELLO, finish_event(), usage_event(), DONE])

    answer = await ask(bench, stream=True, stream_options={"include_usage": True})

    assert usage_event() in answer.body


async def test_a_stream_without_done_gets_one(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = stream([*HELLO, finish_event(), usage_event()])

    answer = await ask(bench, stream=True)

    assert answer.body.endswith(finish_event() + DONE)
    assert bench.ledger.report.outcome is Outcome.OK


async def test_connections_are_used_again(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.scripts.extend(
        [
            answer_json(chat_answer()),
            stream([*HELLO, finish_event(), DONE]),
            answer_status(500),
            answer_json(chat_answer()),
        ]
    )
    bench.use([an_upstream(base_url=upstream.base_url)], max_attempts=1)

    for number, stream_asked in enumerate((False, True, False, False)):
        headers = bench.headers(**{InternalHeader.REQUEST_ID: f"hr-{number}"})
        body = {"model": "hybridroute", "messages": MESSAGES, "stream": stream_asked}
        await bench.client.post("/v1/chat/completions", body, headers)

    assert upstream.attempts == 4
    assert upstream.connections == 1


UNAVAILABLE = [
    ("refuses", None, Outcome.UPSTREAM_ERROR, None),
    ("resets before an answer", reset_before_answer, Outcome.UPSTREAM_ERROR, None),
    ("resets in an answer", reset_after_headers, Outcome.UPSTREAM_ERROR, 200),
    ("500", answer_status(500), Outcome.UPSTREAM_ERROR, 500),
    ("502", answer_status(502), Outcome.UPSTREAM_ERROR, 502),
    ("503", answer_status(503), Outcome.UPSTREAM_ERROR, 503),
    ("redirects", answer_status(302, {"Location": "http://169.254.169.254/"}), Outcome.UPSTREAM_ERROR, 302),
    ("invalid JSON", answer_json(None, raw=b"<html>oops"), Outcome.UPSTREAM_ERROR, 200),
    ("JSON, but no object", answer_json(["x"]), Outcome.UPSTREAM_ERROR, 200),
    ("no choices", answer_json({"id": "x", "usage": {"prompt_tokens": 1}}), Outcome.UPSTREAM_ERROR, 200),
    ("an error in a 200", answer_json({"error": {"message": "x"}}), Outcome.UPSTREAM_ERROR, 200),
    ("our key is refused", answer_status(401), Outcome.UPSTREAM_ERROR, 401),
    ("our model is unknown", answer_status(404), Outcome.UPSTREAM_ERROR, 404),
]
UNAVAILABLE_STREAMS = [
    *UNAVAILABLE,
    ("an error event before content", stream([role_event(), ERROR_EVENT, DONE]), Outcome.UPSTREAM_ERROR, 200),
    ("cut before content", stream_cut([role_event()]), Outcome.UPSTREAM_ERROR, 200),
    ("reset before content", stream_reset([role_event()]), Outcome.UPSTREAM_ERROR, 200),
    ("ends before content", stream([role_event()]), Outcome.UPSTREAM_ERROR, 200),
    ("a unary answer to a stream", answer_json(chat_answer()), Outcome.UPSTREAM_ERROR, 200),
]
THROTTLED = [
    ("429", answer_status(429, {"Retry-After": "7"}), 429, ErrorCode.UPSTREAM_THROTTLED),
    ("529", answer_status(529, {"Retry-After": "7"}), 503, ErrorCode.PATH_UNAVAILABLE),
    ("503 that says when", answer_status(503, {"Retry-After": "7"}), 503, ErrorCode.PATH_UNAVAILABLE),
]
FAULTS = [
    *((name, script, False) for name, script, _, _ in UNAVAILABLE),
    *((name, script, True) for name, script, _, _ in UNAVAILABLE_STREAMS),
    *((name, script, stream_asked) for name, script, _, _ in THROTTLED for stream_asked in (False, True)),
]


def use_faulty(bench: ProxyBench, upstream: ScriptedUpstream, script: Script | None) -> str:
    """Make the upstream fail; None makes it refuse. Returns its base URL."""
    if script is None:
        return f"http://127.0.0.1:{closed_port()}/v1"
    upstream.default = script
    return upstream.base_url


@pytest.mark.parametrize(
    ("script", "stream_asked", "expected"),
    [
        pytest.param(
            script, stream_asked, (outcome, status), id=f"{name}-{'stream' if stream_asked else 'unary'}"
        )
        for stream_asked, faults in ((False, UNAVAILABLE), (True, UNAVAILABLE_STREAMS))
        for name, script, outcome, status in faults
    ],
)
async def test_an_upstream_that_cannot_serve(
    bench: ProxyBench,
    upstream: ScriptedUpstream,
    script: Script | None,
    stream_asked: bool,
    expected: tuple[Outcome, int | None],
) -> None:
    outcome, upstream_status = expected
    bench.use([an_upstream(base_url=use_faulty(bench, upstream, script))], max_attempts=1)

    answer = await ask(bench, stream=stream_asked)

    assert answer.status == 503
    assert answer.json()["error"]["code"] == ErrorCode.PATH_UNAVAILABLE
    assert answer.headers[InternalHeader.FAILURE] == outcome
    assert "scripted" not in answer.body.decode(), "an upstream's own words about our account"
    report = bench.ledger.report
    assert report.outcome is outcome
    assert report.status == upstream_status
    assert report.usage == TokenUsage()
    assert report.cost_nano_usd == 0
    assert upstream.attempts == (0 if script is None else 1)


@pytest.mark.parametrize("stream_asked", [False, True])
@pytest.mark.parametrize(
    ("script", "expected"), [pytest.param(script, said, id=name) for name, script, *said in THROTTLED]
)
async def test_an_upstream_that_throttles(
    bench: ProxyBench,
    upstream: ScriptedUpstream,
    script: Script,
    expected: list[Any],
    stream_asked: bool,
) -> None:
    status, code = expected
    upstream.default = script
    bench.use([an_upstream(base_url=upstream.base_url)], max_attempts=1)

    answer = await ask(bench, stream=stream_asked)

    assert answer.status == status
    assert answer.json()["error"]["code"] == code
    assert answer.headers["retry-after"] == "7"
    assert answer.headers[InternalHeader.FAILURE] == Outcome.THROTTLED
    assert bench.ledger.report.outcome is Outcome.THROTTLED
    assert bench.ledger.report.cost_nano_usd == 0


@pytest.mark.parametrize(
    ("script", "stream_asked"),
    [pytest.param(s, a, id=f"{name}-{'stream' if a else 'unary'}") for name, s, a in FAULTS],
)
async def test_the_next_upstream_takes_over_before_the_commit(
    bench: ProxyBench,
    upstream: ScriptedUpstream,
    second: ScriptedUpstream,
    script: Script | None,
    stream_asked: bool,
) -> None:
    second.default = (
        stream([*HELLO, finish_event(), usage_event(), DONE]) if stream_asked else answer_json(chat_answer())
    )
    bench.use(
        [
            an_upstream(base_url=use_faulty(bench, upstream, script)),
            an_upstream("spare", second.base_url, model="other"),
        ]
    )

    answer = await ask(bench, stream=stream_asked)

    assert answer.status == 200
    assert answer.headers[InternalHeader.UPSTREAM] == "spare"
    assert InternalHeader.FAILURE not in answer.headers
    assert "Hello there" in (text_of(answer) if stream_asked else answer.body.decode())
    assert [report.attempt_id for report in bench.ledger.reports] == ["hr-1/llm/1", "hr-1/llm/2"]
    assert [report.upstream for report in bench.ledger.reports] == ["primary", "spare"]
    assert bench.ledger.reports[1].outcome is Outcome.OK
    assert [report.cost_nano_usd for report in bench.ledger.reports] == [0, USAGE_COST]
    assert second.requests[0].json()["model"] == "other"
    assert second.attempts == 1


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
async def test_a_request_that_the_upstream_finds_wrong(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream, status: int
) -> None:
    upstream.default = answer_status(status)
    bench.use([an_upstream(base_url=upstream.base_url), an_upstream("spare", second.base_url)])

    answer = await ask(bench)

    assert answer.status == status
    assert answer.json()["error"]["message"] == "scripted"
    assert answer.headers[InternalHeader.FAILURE] == Outcome.CLIENT_ERROR
    assert bench.ledger.report.outcome is Outcome.CLIENT_ERROR
    assert second.attempts == 0


async def test_a_refusal_that_is_not_json_is_put_in_openais_shape(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.default = answer_json(None, status=400, raw=b"<html>", headers={"Content-Type": "text/html"})

    answer = await ask(bench)

    assert answer.status == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == ErrorCode.UPSTREAM_REFUSED


@pytest.mark.parametrize(
    ("script", "stream_asked"),
    [
        pytest.param(hang_before_headers, False, id="before headers, unary"),
        pytest.param(hang_after_headers, False, id="after headers, unary"),
        pytest.param(hang_before_headers, True, id="before headers, stream"),
        pytest.param(stream_then_hang([]), True, id="after headers, stream"),
        pytest.param(
            stream_then_hang([role_event(), b": keep-alive\n\n"]), True, id="after the role, stream"
        ),
        pytest.param(answer_status(408), False, id="says so itself"),
    ],
)
async def test_a_timeout_after_sending_is_not_tried_elsewhere(
    bench: ProxyBench,
    upstream: ScriptedUpstream,
    second: ScriptedUpstream,
    script: Script,
    stream_asked: bool,
) -> None:
    upstream.default = script
    bench.use(
        [
            an_upstream(base_url=upstream.base_url, timeouts=IMPATIENT),
            an_upstream("spare", second.base_url),
        ]
    )

    answer = await ask(bench, stream=stream_asked)

    assert answer.status == 504
    assert answer.json()["error"]["code"] == ErrorCode.TIMEOUT
    assert answer.headers[InternalHeader.FAILURE] == Outcome.TIMEOUT
    report = bench.ledger.report
    assert report.outcome is Outcome.TIMEOUT
    assert report.usage == TokenUsage(PROMPT_ESTIMATE, source=UsageSource.ESTIMATED)
    assert report.cost_nano_usd == PROMPT_ESTIMATE * 2_500
    assert second.attempts == 0
    assert upstream.attempts == 1


async def test_no_connection_in_time_is_tried_elsewhere(bench: ProxyBench, second: ScriptedUpstream) -> None:
    # TEST-NET-1 (RFC 5737) has no hosts; where it is refused at once instead, the next upstream serves as well.
    nowhere = an_upstream(
        base_url="http://192.0.2.1/v1", timeouts=IMPATIENT.model_copy(update={"connect_seconds": 0.1})
    )
    bench.use([nowhere, an_upstream("spare", second.base_url)])

    answer = await ask(bench)

    assert answer.status == 200
    assert answer.headers[InternalHeader.UPSTREAM] == "spare"
    assert bench.ledger.reports[0].outcome in (Outcome.TIMEOUT, Outcome.UPSTREAM_ERROR)
    assert bench.ledger.reports[0].usage == TokenUsage()


@pytest.mark.parametrize("how", [stream_cut, stream])
async def test_a_stream_cut_after_content(bench: ProxyBench, upstream: ScriptedUpstream, how: Any) -> None:
    upstream.default = how([*HELLO, content_event("never finished")[:30]])

    answer = await ask(bench, stream=True)

    assert answer.status == 200
    assert text_of(answer) == "Hello there"
    assert events_of(answer)[-1]["error"]["code"] == ErrorCode.STREAM_CUT
    assert upstream.attempts == 1
    report = bench.ledger.report
    assert report.outcome is Outcome.CUT
    assert report.usage == TokenUsage(PROMPT_ESTIMATE, 3, source=UsageSource.ESTIMATED)
    assert report.cost_nano_usd == PROMPT_ESTIMATE * 2_500 + 3 * 10_000


async def test_a_stream_reset_after_content(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    seen = asyncio.Event()
    upstream.default = stream_reset(HELLO, when=seen)
    body = json.dumps({"model": "m", "messages": MESSAGES, "stream": True}).encode()

    task, answer, progressed = bench.client.start("POST", "/v1/chat/completions", body, bench.headers())
    await progressed.wait()
    seen.set()
    await task

    assert events_of(answer)[-1]["error"]["code"] == ErrorCode.STREAM_CUT
    assert answer.ended
    assert bench.ledger.report.outcome is Outcome.CUT


async def test_an_error_event_after_content_ends_the_stream(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.default = stream([*HELLO, ERROR_EVENT, content_event("more"), DONE])

    answer = await ask(bench, stream=True)

    assert answer.body == b"".join([*HELLO, ERROR_EVENT])
    assert bench.ledger.report.outcome is Outcome.CUT
    assert upstream.attempts == 1


async def test_a_stream_longer_than_its_deadline(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = stream_then_hang(HELLO)
    timeouts = UpstreamTimeouts(connect_seconds=1.0, first_byte_seconds=1.0, total_seconds=1.0)
    bench.use([an_upstream(base_url=upstream.base_url, timeouts=timeouts)])

    answer = await ask(bench, stream=True)

    assert text_of(answer) == "Hello there"
    assert events_of(answer)[-1]["error"]["code"] == ErrorCode.TIMEOUT
    assert bench.ledger.report.outcome is Outcome.CUT


async def test_a_slow_trickle_is_no_timeout(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    released = asyncio.Event()

    async def wait_once(number: int) -> None:
        if number == 2:
            await released.wait()

    body = json.dumps({"model": "m", "messages": MESSAGES, "stream": True}).encode()
    letters = [content_event(letter) for letter in "abcdef"]
    upstream.default = stream([role_event(), *letters, finish_event(), DONE], before_each=wait_once)

    task, answer, progressed = bench.client.start("POST", "/v1/chat/completions", body, bench.headers())
    await progressed.wait()
    assert text_of(answer) == "a"
    released.set()
    await task

    assert text_of(answer) == "abcdef"
    assert bench.ledger.report.outcome is Outcome.OK


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"prompt_tokens": 10**30, "completion_tokens": 2},
        {"prompt_tokens": 5, "completion_tokens": -1},
        {"prompt_tokens": "5", "completion_tokens": "2"},
    ],
)
@pytest.mark.parametrize("stream_asked", [False, True])
async def test_usage_that_is_missing_or_absurd_is_estimated(
    bench: ProxyBench, upstream: ScriptedUpstream, stream_asked: bool, usage: object
) -> None:
    unary = {**chat_answer("word " * 40), "usage": usage}
    reported = [] if usage is None else [event({"choices": [], "usage": usage})]
    upstream.default = (
        stream([role_event(), content_event("word " * 40), finish_event(), *reported, DONE])
        if stream_asked
        else answer_json(unary)
    )

    answer = await ask(bench, stream=stream_asked)

    assert answer.status == 200
    report = bench.ledger.report
    assert report.outcome is Outcome.OK
    assert report.usage.source is UsageSource.ESTIMATED
    assert report.usage.prompt_tokens == PROMPT_ESTIMATE
    assert 40 <= report.usage.completion_tokens <= 60
    assert report.cost_nano_usd == PROMPT_ESTIMATE * 2_500 + report.usage.completion_tokens * 10_000


@pytest.mark.parametrize("stream_asked", [False, True])
async def test_a_mebibyte_in_one_chunk(
    bench: ProxyBench, upstream: ScriptedUpstream, stream_asked: bool
) -> None:
    text = "x" * (1 << 20)
    upstream.default = (
        stream([role_event(), content_event(text) + finish_event() + usage_event() + DONE])
        if stream_asked
        else answer_json(chat_answer(text))
    )

    answer = await ask(bench, stream=stream_asked)

    said = text_of(answer) if stream_asked else answer.json()["choices"][0]["message"]["content"]
    assert said == text
    assert bench.ledger.report.usage == USAGE


async def leave_when(
    bench: ProxyBench, upstream: ScriptedUpstream, *, stream_asked: bool, started: bool
) -> AsgiAnswer:
    """Ask, and go away when the upstream has the request, or when the answer has begun."""
    body = json.dumps({"model": "m", "messages": MESSAGES, "stream": stream_asked}).encode()
    task, answer, progressed = bench.client.start("POST", "/v1/chat/completions", body, bench.headers())
    if started:
        await progressed.wait()
    else:
        await upstream.wait_until(lambda one: one.attempts == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.wait_until(lambda one: one.open_connections == 0, seconds=1.0)
    assert upstream.clients_gone == 1
    return answer


async def test_a_client_gone_in_the_middle_of_a_stream(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = stream_then_hang(HELLO)

    await leave_when(bench, upstream, stream_asked=True, started=True)

    report = bench.ledger.report
    assert report.outcome is Outcome.CANCELLED
    assert report.usage.source is UsageSource.ESTIMATED
    assert report.usage.prompt_tokens == PROMPT_ESTIMATE
    assert report.usage.completion_tokens >= 1


@pytest.mark.parametrize("stream_asked", [False, True])
@pytest.mark.parametrize("script", [hang_before_headers, stream_then_hang([role_event()])])
async def test_a_client_gone_before_any_content(
    bench: ProxyBench, upstream: ScriptedUpstream, script: Script, stream_asked: bool
) -> None:
    upstream.default = script

    answer = await leave_when(bench, upstream, stream_asked=stream_asked, started=False)

    assert answer.status == 0
    report = bench.ledger.report
    assert report.outcome is Outcome.CANCELLED
    assert report.usage == TokenUsage(PROMPT_ESTIMATE, source=UsageSource.ESTIMATED)


async def test_usage_reported_before_the_client_left_is_kept(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.default = stream_then_hang([role_event() + content_event("x") + usage_event(50, 1)])

    await leave_when(bench, upstream, stream_asked=True, started=True)

    assert bench.ledger.report.usage == TokenUsage(50, 1, source=UsageSource.REPORTED)


async def test_an_upstream_that_lingers_after_done(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = stream_then_hang([*HELLO, finish_event(), DONE])

    answer = await ask(bench, stream=True)

    assert answer.body.endswith(DONE)
    assert bench.ledger.report.outcome is Outcome.OK
    await upstream.wait_until(lambda one: one.open_connections == 0)


async def test_many_streams_at_once(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = stream([*HELLO, finish_event(), usage_event(), DONE])
    # A busy machine may take longer for 200 than one stream is given.
    patient = UpstreamTimeouts(connect_seconds=60.0, first_byte_seconds=60.0, total_seconds=60.0)
    bench.use([an_upstream(base_url=upstream.base_url, timeouts=patient)])

    async def one(number: int) -> AsgiAnswer:
        headers = bench.headers(**{InternalHeader.REQUEST_ID: f"hr-{number}"})
        body = {"model": "m", "messages": MESSAGES, "stream": True}
        return await bench.client.post("/v1/chat/completions", body, headers)

    answers = await asyncio.gather(*(one(number) for number in range(200)))

    assert {answer.body for answer in answers} == {b"".join([*HELLO, finish_event(), DONE])}
    assert {report.outcome for report in bench.ledger.reports} == {Outcome.OK}
    assert sum(report.cost_nano_usd for report in bench.ledger.reports) == 200 * USAGE_COST
