"""The stand-in: OpenAI's shapes, an honest label, limits, usage, pace."""

import json
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from hybridroute_api.serving import StandInArgs
from hybridroute_serve.standin.app import build_stand_in_app
from support.asgi_client import AsgiAnswer, AsgiClient

CHAT: dict[str, Any] = {"model": "x", "messages": [{"role": "user", "content": "hello"}]}
TOKENS_PER_SECOND = 50.0


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def client(slept: list[float]) -> AsgiClient:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    return AsgiClient(
        build_stand_in_app(StandInArgs(tokens_per_second=TOKENS_PER_SECOND), sleep=sleep, clock=lambda: 1.9)
    )


def chunks_of(answer: AsgiAnswer) -> list[ChatCompletionChunk]:
    *events, done, rest = answer.body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [ChatCompletionChunk.model_validate_json(one.removeprefix("data: ")) for one in events]


async def test_a_chat_answer_says_what_it_is(client: AsgiClient) -> None:
    answer = await client.post("/v1/chat/completions", CHAT)

    completion = ChatCompletion.model_validate_json(answer.body, strict=True)
    assert completion.model == "local-stand-in"
    assert completion.created == 1
    text = completion.choices[0].message.content
    assert text
    assert "local stand-in" in text
    assert "not from a real model" in text
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage
    assert completion.usage.completion_tokens == len(text.split(" "))
    assert (
        completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    )


async def test_a_stream_says_the_same(client: AsgiClient, slept: list[float]) -> None:
    unary = ChatCompletion.model_validate_json((await client.post("/v1/chat/completions", CHAT)).body)
    slept.clear()

    chunks = chunks_of(await client.post("/v1/chat/completions", CHAT | {"stream": True}))

    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == unary.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)
    assert slept == [1 / TOKENS_PER_SECOND] * len(text.split(" "))


async def test_usage_is_streamed_when_asked_for(client: AsgiClient) -> None:
    body = CHAT | {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 4, "n": 2}

    last = chunks_of(await client.post("/v1/chat/completions", body))[-1]

    assert last.choices == []
    assert last.usage
    assert last.usage.completion_tokens == 8


async def test_a_unary_answer_takes_as_long_as_its_stream(client: AsgiClient, slept: list[float]) -> None:
    await client.post("/v1/chat/completions", CHAT | {"max_tokens": 10})

    assert slept == [pytest.approx(10 / TOKENS_PER_SECOND)]


@pytest.mark.parametrize("cap", ["max_tokens", "max_completion_tokens"])
async def test_limits_and_choices(client: AsgiClient, cap: str) -> None:
    answer = await client.post("/v1/chat/completions", CHAT | {cap: 3, "n": 2})

    completion = ChatCompletion.model_validate_json(answer.body)
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert {choice.finish_reason for choice in completion.choices} == {"length"}
    assert {choice.message.content for choice in completion.choices} == {"This answer comes"}


async def test_completions(client: AsgiClient) -> None:
    unary = await client.post("/v1/completions", {"model": "x", "prompt": "hello", "max_tokens": 2})
    streamed = await client.post(
        "/v1/completions", {"model": "x", "prompt": "hello", "max_tokens": 2, "stream": True}
    )

    assert Completion.model_validate_json(unary.body).choices[0].text == "This answer"
    events = [one.removeprefix("data: ") for one in streamed.body.decode().split("\n\n") if one]
    assert "".join(json.loads(one)["choices"][0]["text"] for one in events[:-1]) == "This answer"


async def test_the_same_request_gets_the_same_answer(client: AsgiClient) -> None:
    first = await client.post("/v1/chat/completions", CHAT)
    second = await client.post("/v1/chat/completions", CHAT)

    assert first.body == second.body


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/models", b"", 200),
        ("GET", "/healthz", b"", 200),
        ("POST", "/v1/models", b"", 405),
        ("GET", "/v1/chat/completions", b"", 405),
        ("POST", "/v1/embeddings", b"{}", 404),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", json.dumps(CHAT | {"n": 129}).encode(), 400),
    ],
)
async def test_other_routes(client: AsgiClient, method: str, path: str, body: bytes, status: int) -> None:
    answer = await client.request(method, path, body)

    assert answer.status == status
    assert status == 200 or answer.json()["error"]["message"]


async def test_its_model_is_listed(client: AsgiClient) -> None:
    answer = await client.request("GET", "/v1/models")

    assert [model["id"] for model in answer.json()["data"]] == ["local-stand-in"]
