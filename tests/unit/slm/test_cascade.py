"""The SLM application holds an answer's beginning and says how sure the model was of it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hybridroute_api.vocabulary import InternalHeader, Outcome, UsageSource
from hybridroute_serve.engines.llamacpp import LlamaCppEngine
from hybridroute_serve.engines.vllm_dialect import VllmDialect
from hybridroute_serve.slm.cascade import MarginTally
from hybridroute_serve.wire.asgi import Receive, Scope, Send, read_body, send_answer, send_chunk, send_start
from support.eventually import eventually
from support.slm import ScriptedEngine, SlmBench, chat, running_slm
from support.upstream import (
    DONE,
    content_event,
    event,
    finish_event,
    role_event,
    running_upstream,
    stream,
    stream_cut,
    usage_event,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = "/v1/chat/completions"
ENDLESS = {"logit_bias": {"0": -100, "2": -100}}
_CHANGING = re.compile(rb'"(id|created)":("[^"]*"|\d+)')


@pytest_asyncio.fixture(loop_scope="module")
async def slm(engine: LlamaCppEngine) -> AsyncIterator[SlmBench]:
    async with running_slm(engine) as bench:
        yield bench


def held(slm: SlmBench, request_id: str, tokens: int = 8) -> dict[str, str]:
    return slm.headers(request_id, **{InternalHeader.CASCADE_TOKENS: str(tokens)})


def lasting(body: bytes) -> bytes:
    """What two answers to one question have in common: not their ids and times."""
    return _CHANGING.sub(b"", body)


@pytest.mark.parametrize(
    "more", [{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}]
)
async def test_what_is_passed_on_is_what_would_have_come(slm: SlmBench, more: dict[str, Any]) -> None:
    question = chat("Name three colours.", max_tokens=24, **more)
    await slm.client.post(CHAT, question, slm.headers("hr-0"))
    plain = await slm.client.post(CHAT, question, slm.headers("hr-1"))
    looked_at = await slm.client.post(CHAT, question, held(slm, "hr-2"))
    assert lasting(looked_at.body) == lasting(plain.body)
    assert looked_at.headers["content-type"] == plain.headers["content-type"]
    if not more:
        assert int(looked_at.headers["content-length"]) == len(looked_at.body)
    margin, tokens = looked_at.headers[InternalHeader.CASCADE_MARGIN].split()
    assert 0.0 < float(margin) < 1.0
    assert tokens == "8"
    usages = [report.usage for report in slm.ledger.reports]
    assert usages[1].completion_tokens == usages[2].completion_tokens
    assert usages[2].source is UsageSource.REPORTED


async def test_stream_and_whole_answer_are_as_sure(slm: SlmBench) -> None:
    question = chat("What is the capital of France?", max_tokens=12)
    whole = await slm.client.post(CHAT, question, held(slm, "hr-1"))
    streamed = await slm.client.post(CHAT, {**question, "stream": True}, held(slm, "hr-2"))
    one, other = (answer.headers[InternalHeader.CASCADE_MARGIN].split() for answer in (whole, streamed))
    # What the engine kept of the prompt moves the last digits of its logprobs.
    assert float(one[0]) == pytest.approx(float(other[0]), abs=0.02)
    assert one[1] == other[1]


@pytest.mark.parametrize("more", [{}, {"stream": True}])
async def test_a_client_that_asks_for_logprobs_gets_them_all(slm: SlmBench, more: dict[str, Any]) -> None:
    question = chat("Say hi", max_tokens=6, logprobs=True, top_logprobs=2, **more)
    plain = await slm.client.post(CHAT, question, slm.headers("hr-1"))
    looked_at = await slm.client.post(CHAT, question, held(slm, "hr-2", tokens=4))
    counts = [body.count(b'"top_logprobs"') for body in (plain.body, looked_at.body)]
    assert counts[0] == counts[1] > 3
    assert looked_at.headers[InternalHeader.CASCADE_MARGIN].endswith(" 4")


async def test_a_client_that_asks_for_one_alternative_gets_one_and_no_margin(slm: SlmBench) -> None:
    question = chat("Say hi", max_tokens=6, logprobs=True, top_logprobs=1)
    answer = await slm.client.post(CHAT, question, held(slm, "hr-1"))
    tokens = answer.json()["choices"][0]["logprobs"]["content"]
    assert all(len(token["top_logprobs"]) == 1 for token in tokens)
    assert answer.headers[InternalHeader.CASCADE_MARGIN] == "fewer than two alternatives"


async def test_an_answer_shorter_than_what_is_held(slm: SlmBench) -> None:
    answer = await slm.client.post(CHAT, chat(max_tokens=3, stream=True), held(slm, "hr-1", tokens=200))
    assert answer.headers[InternalHeader.CASCADE_MARGIN].endswith(" 3")
    assert answer.body.endswith(DONE)


async def test_giving_the_answer_up_frees_the_engine(slm: SlmBench, engine: LlamaCppEngine) -> None:
    body = json.dumps(chat(max_tokens=1500, stream=True, **ENDLESS)).encode()
    task, answer, progressed = slm.client.start("POST", CHAT, body, held(slm, "hr-1", tokens=4))
    await progressed.wait()
    assert answer.status == 200
    assert (await engine.signals()).running == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    async def idle() -> bool:
        return (await engine.signals()).running == 0

    await eventually(idle)
    report = slm.ledger.report
    assert (report.outcome, report.usage.source) == (Outcome.CANCELLED, UsageSource.ESTIMATED)
    assert 0 < report.usage.completion_tokens < 100


async def test_the_second_attempt_of_a_request_has_a_name_of_its_own(slm: SlmBench) -> None:
    await slm.client.post(CHAT, chat(max_tokens=2), held(slm, "hr-1"))
    await slm.client.post(CHAT, chat(max_tokens=2), slm.headers("hr-1", **{InternalHeader.ATTEMPT: "2"}))
    assert [report.attempt_id for report in slm.ledger.reports] == ["hr-1/slm/1", "hr-1/slm/2"]


@pytest.mark.parametrize("more", [{}, {"stream": True}])
async def test_an_engine_without_logprobs_is_not_waited_for(more: dict[str, Any]) -> None:
    last = asyncio.Event()
    chunks = [
        role_event(),
        *(content_event(str(n)) for n in range(6)),
        finish_event(),
        usage_event(10, 6),
        DONE,
    ]

    async def wait(number: int) -> None:
        if more and number == 5:
            await last.wait()

    async with running_upstream(stream(chunks, before_each=wait)) as upstream:
        engine = ScriptedEngine(upstream.base_url.removesuffix("/v1"))
        async with running_slm(engine) as slm:
            body = json.dumps(chat(**more)).encode()
            task, answer, progressed = slm.client.start("POST", CHAT, body, held(slm, "hr-1", tokens=4))
            await progressed.wait()
            assert answer.status == 200
            assert answer.headers[InternalHeader.CASCADE_MARGIN] == "no logprobs"
            last.set()
            await task
            assert answer.ended
            assert slm.ledger.report.outcome is Outcome.OK
        asked = upstream.requests[0].json()
        assert (asked["logprobs"], asked["top_logprobs"]) == (True, 3)


async def test_a_stream_that_breaks_off_while_it_is_held_can_still_be_served_elsewhere() -> None:
    async with running_upstream(stream_cut([role_event(), content_event("a")])) as upstream:
        engine = ScriptedEngine(upstream.base_url.removesuffix("/v1"))
        async with running_slm(engine) as slm:
            answer = await slm.client.post(CHAT, chat(stream=True), held(slm, "hr-1", tokens=4))
            assert answer.status == 503
            assert answer.headers[InternalHeader.FAILURE] == Outcome.UPSTREAM_ERROR
            assert slm.ledger.report.outcome is Outcome.CUT


async def test_a_stream_that_breaks_off_later_ends_as_ever() -> None:
    async with running_upstream(
        stream_cut([role_event(), *(content_event("a") for _ in range(5))])
    ) as upstream:
        engine = ScriptedEngine(upstream.base_url.removesuffix("/v1"))
        async with running_slm(engine) as slm:
            answer = await slm.client.post(CHAT, chat(stream=True), held(slm, "hr-1", tokens=4))
            assert answer.status == 200
            assert b'"stream_cut"' in answer.body


async def test_a_refusal_passes(slm: SlmBench) -> None:
    answer = await slm.client.post(CHAT, chat("x " * 5000), held(slm, "hr-1"))
    assert answer.status == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert InternalHeader.CASCADE_MARGIN not in answer.headers


class VllmLike:
    """Answers as vLLM does: compact JSON, in which `logprobs` is null where nobody asked."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = json.loads(await read_body(scope, receive, 1 << 20))
        told = None
        if body.get("logprobs"):
            # The drawn token first, then as many of the likeliest as are left.
            drawn, *likeliest = [-4.0, -0.2, -2.0, -3.0]
            listed = [drawn, *likeliest][: body["top_logprobs"]]
            token = {"token": "Hi", "logprob": drawn, "top_logprobs": [{"logprob": one} for one in listed]}
            told = {"content": [token]}
        usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"content": "Hi"}, "logprobs": told, "finish_reason": "stop"}
            await send_answer(send, 200, _compact({"choices": [choice], "usage": usage}))
            return
        await send_start(send, 200, [(b"content-type", b"text/event-stream")])
        for delta, logprobs in (({"role": "assistant", "content": ""}, None), ({"content": "Hi"}, told)):
            choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}
            await send_chunk(send, b"data: " + _compact({"choices": [choice]}) + b"\n\n", more=True)
        await send_chunk(send, event({"choices": [], "usage": usage}) + DONE, more=False)


def _compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


@pytest.mark.parametrize("more", [{}, {"stream": True}])
async def test_an_engine_that_answers_as_it_is_asked(more: dict[str, Any]) -> None:
    engine = ScriptedEngine("", app=VllmLike())
    engine.dialect = VllmDialect()
    engine.headers = {}
    async with running_slm(engine) as slm:
        plain = await slm.client.post(CHAT, chat(**more), slm.headers("hr-1"))
        looked_at = await slm.client.post(CHAT, chat(**more), held(slm, "hr-2"))
    assert looked_at.body == plain.body
    # exp(-0.2) - exp(-2): the drawn token is not one of the two likeliest.
    assert looked_at.headers[InternalHeader.CASCADE_MARGIN] == "0.683395 1"


async def test_a_tally_counts_to_what_is_wanted() -> None:
    tally = MarginTally(2)
    tally.add((0.5,), 1, has_content=True)
    assert not tally.is_full
    tally.add((0.7, 0.1), 2, has_content=True)
    assert tally.is_full
    assert tally.say() == "0.600000 2"
