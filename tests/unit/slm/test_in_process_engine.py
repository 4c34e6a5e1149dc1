"""The SLM application on an engine that is an application in the same process, as vLLM's server is."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hybridroute_api.vocabulary import ErrorCode, InternalHeader, Outcome, UsageSource
from hybridroute_serve.engines.vllm_dialect import VllmDialect
from hybridroute_serve.wire.asgi import Receive, Scope, Send, read_body, send_answer, send_chunk, send_start
from support.slm import ScriptedEngine, SlmBench, chat, running_slm

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


class VllmLike:
    """Answers as vLLM does, and remembers what it was asked."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(f"{scope['method']} {scope['path']}")
        if scope["path"] == "/metrics":
            await send_answer(send, 200, b"vllm:num_requests_running 0")
            return
        body = json.loads(await read_body(scope, receive, 1 << 20))
        self.bodies.append(body)
        if body["max_tokens"] > 1000:
            message = "This model's maximum context length is 1000 tokens."
            error = {"message": message, "type": "BadRequestError", "param": "max_tokens", "code": 400}
            await send_answer(send, 400, json.dumps({"error": error}).encode())
        elif body.get("stream"):
            await send_start(send, 200, [(b"content-type", b"text/event-stream")])
            for choices in (
                [{"index": 0, "delta": {"role": "assistant", "content": ""}}],
                [{"index": 0, "delta": {"content": "Hi"}, "token_ids": [1]}],
            ):
                await send_chunk(
                    send, b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n", more=True
                )
            await send_chunk(
                send, b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n", more=True
            )
            await send_chunk(send, b"data: [DONE]\n\n", more=False)
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "stop_reason": None}
            answer = {"model": body["model"], "choices": [choice], "usage": USAGE, "prompt_logprobs": None}
            await send_answer(send, 200, json.dumps(answer).encode())


@pytest.fixture
def server() -> VllmLike:
    return VllmLike()


@pytest.fixture
async def slm(server: VllmLike) -> AsyncIterator[SlmBench]:
    engine = ScriptedEngine("", tools=True, app=server)
    engine.dialect = VllmDialect()
    engine.headers = {}
    async with running_slm(engine) as bench:
        yield bench


async def test_a_whole_answer_passes_as_it_is(slm: SlmBench, server: VllmLike) -> None:
    asked = chat(max_tokens=2, min_p=0.1, tools=[{"type": "function", "function": {"name": "f"}}])
    answer = await slm.client.post(CHAT, asked, slm.headers())
    assert answer.status == 200
    assert "prompt_logprobs" in answer.json()
    assert server.bodies == [{**asked, "model": "small"}]
    [report] = slm.ledger.reports
    assert (report.outcome, report.usage.completion_tokens) == (Outcome.OK, 2)
    assert report.usage.source is UsageSource.REPORTED


async def test_a_stream_passes_and_its_usage_only_if_asked_for(slm: SlmBench, server: VllmLike) -> None:
    answer = await slm.client.post(CHAT, chat(max_tokens=2, stream=True), slm.headers())
    assert b"token_ids" in answer.body
    assert b"usage" not in answer.body
    assert server.bodies[0]["stream_options"] == {"include_usage": True}
    asking = {"include_usage": True}
    answer = await slm.client.post(
        CHAT, chat(max_tokens=2, stream=True, stream_options=asking), slm.headers("2")
    )
    assert b'"usage"' in answer.body
    assert [report.usage.prompt_tokens for report in slm.ledger.reports] == [7, 7]


@pytest.mark.parametrize(
    ("asked", "served"), [("cards", "cards"), ("slm", "small"), ("hybridroute", "small")]
)
async def test_an_adapter_is_served_by_its_name(
    slm: SlmBench, server: VllmLike, asked: str, served: str
) -> None:
    answer = await slm.client.post(CHAT, chat(max_tokens=2) | {"model": asked}, slm.headers())
    assert answer.json()["model"] == served
    assert slm.ledger.reports[0].model == served


async def test_a_refusal_tells_the_router_that_another_model_may_serve_it(slm: SlmBench) -> None:
    answer = await slm.client.post(CHAT, chat(max_tokens=5000), slm.headers())
    assert answer.status == 400
    assert answer.json()["error"]["code"] == ErrorCode.CONTEXT_LENGTH_EXCEEDED
    assert answer.headers[InternalHeader.FAILURE] == Outcome.CLIENT_ERROR


async def test_every_other_path_is_the_engines_own_behind_the_token(slm: SlmBench, server: VllmLike) -> None:
    assert (await slm.client.request("GET", "/metrics")).status == 401
    assert server.paths == []
    answer = await slm.client.request("GET", "/metrics", headers=slm.headers())
    assert answer.body == b"vllm:num_requests_running 0"
    assert server.paths == ["GET /metrics"]
