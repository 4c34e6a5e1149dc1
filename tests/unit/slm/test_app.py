"""The SLM application on the real engine: what it answers, what it reports, what a client that leaves costs."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import openai
import pytest
import pytest_asyncio

from hybridroute_api.vocabulary import ErrorCode, InternalHeader, Outcome, PathName, UsageSource
from hybridroute_serve.engines.llamacpp import LlamaCppEngine
from hybridroute_serve.wire.sse import event_data, split_events
from support.eventually import eventually
from support.serving import running
from support.slm import BUNDLED, SlmBench, chat, running_slm

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
ENDLESS = {"logit_bias": {"0": -100, "2": -100}}
"""The bundled model never ends by itself: the two tokens that would."""
LONG = {"max_tokens": 1500, **ENDLESS}
"""Some 20 s of work on one core: nothing ends by itself while a test looks."""


@pytest_asyncio.fixture(loop_scope="module")
async def slm(engine: LlamaCppEngine) -> AsyncIterator[SlmBench]:
    async with running_slm(engine) as bench:
        yield bench
    await eventually(lambda: _runs(engine, 0))


async def _runs(engine: LlamaCppEngine, sequences: int) -> bool:
    signals = await engine.signals()
    return (signals.running, signals.waiting) == (sequences, 0)


def _chunks(body: bytes) -> list[Any]:
    """The JSON of a stream's events; it must end with `[DONE]`."""
    data = [event_data(event) for event in split_events(body)]
    assert data[-1] == b"[DONE]"
    return [json.loads(one) for one in data[:-1] if one is not None]


def _streamed_text(body: bytes) -> str:
    choices = [choice for chunk in _chunks(body) for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_a_chat_answer_and_its_report(slm: SlmBench) -> None:
    answer = await slm.client.post(CHAT, chat(max_tokens=8), slm.headers())
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers[InternalHeader.UPSTREAM] == "slm"
    said = answer.json()
    assert (said["object"], said["model"]) == ("chat.completion", "small")
    (choice,) = said["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] in ("length", "stop")
    report = slm.ledger.report
    assert (report.request_id, report.attempt_id) == ("hr-1", "hr-1/slm/1")
    assert (report.path, report.upstream, report.model) == (PathName.SLM, "slm", "small")
    assert (report.gate, report.outcome, report.status) == ("confidence", Outcome.OK, 200)
    assert report.usage.source is UsageSource.REPORTED
    assert report.usage.prompt_tokens == said["usage"]["prompt_tokens"] > 0
    assert report.usage.completion_tokens == said["usage"]["completion_tokens"] > 0
    assert report.first_byte_seconds is not None
    assert report.busy_seconds > 0
    assert report.busy_seconds == pytest.approx(slm.busy.busy_seconds(0.0))
    assert report.cost_nano_usd == 0


async def test_a_stream_says_what_the_unary_answer_says(slm: SlmBench) -> None:
    question = chat("Name three colours.", max_tokens=12, seed=1)
    unary = await slm.client.post(CHAT, question, slm.headers("hr-1"))
    stream = await slm.client.post(CHAT, {**question, "stream": True}, slm.headers("hr-2"))
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert _streamed_text(stream.body) == unary.json()["choices"][0]["message"]["content"]
    first, second = slm.ledger.reports
    assert first.usage.completion_tokens == second.usage.completion_tokens
    assert b"prompt_progress" not in stream.body


@pytest.mark.parametrize("asked", [True, False])
async def test_a_stream_tells_its_usage_only_when_asked(slm: SlmBench, asked: bool) -> None:
    question = chat(max_tokens=4, stream=True)
    if asked:
        question["stream_options"] = {"include_usage": True}
    answer = await slm.client.post(CHAT, question, slm.headers())
    said = [chunk["usage"] for chunk in _chunks(answer.body) if chunk.get("usage")]
    assert len(said) == (1 if asked else 0)
    assert slm.ledger.report.usage.source is UsageSource.REPORTED
    for usage in said:
        assert usage["completion_tokens"] == slm.ledger.report.usage.completion_tokens


@pytest.mark.parametrize("stream", [True, False])
async def test_every_choice_is_counted(slm: SlmBench, stream: bool) -> None:
    question = chat(max_tokens=5, n=3, stream=stream, **ENDLESS)
    answer = await slm.client.post(CHAT, question, slm.headers())
    assert answer.status == 200
    usage = slm.ledger.report.usage
    assert usage.completion_tokens == 15
    assert 0 < usage.prompt_tokens < 100
    if not stream:
        said = answer.json()
        assert [choice["index"] for choice in said["choices"]] == [0, 1, 2]
        assert said["usage"]["completion_tokens"] == 15


async def test_completions_with_several_prompts(slm: SlmBench) -> None:
    question = {"model": "m", "prompt": ["Once upon", "Two plus two is"], "max_tokens": 3, **ENDLESS}
    answer = await slm.client.post(COMPLETIONS, question, slm.headers())
    said = answer.json()
    assert said["object"] == "text_completion"
    assert said["id"].startswith("cmpl-")
    assert [choice["index"] for choice in said["choices"]] == [0, 1]
    assert all(choice["text"] for choice in said["choices"])
    assert slm.ledger.report.usage.completion_tokens == said["usage"]["completion_tokens"] == 6


async def test_a_streamed_completion(slm: SlmBench) -> None:
    question = {"model": "m", "prompt": "Once upon a", "max_tokens": 4, "stream": True}
    answer = await slm.client.post(COMPLETIONS, question, slm.headers())
    chunks = _chunks(answer.body)
    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    assert not any(chunk.get("usage") for chunk in chunks)
    assert all(chunk["id"].startswith("cmpl-") for chunk in chunks)
    assert slm.ledger.report.usage.source is UsageSource.REPORTED


async def test_what_else_openai_knows(slm: SlmBench) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    question = chat(
        "Is water wet? Answer in JSON.",
        max_tokens=40,
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        logprobs=True,
        top_logprobs=2,
    )
    answer = await slm.client.post(CHAT, question, slm.headers("hr-1"))
    (choice,) = answer.json()["choices"]
    assert isinstance(json.loads(choice["message"]["content"])["ok"], bool)
    assert all(len(token["top_logprobs"]) == 2 for token in choice["logprobs"]["content"])
    counting = chat("Count: one, two, three, four,", max_tokens=60)
    whole = await slm.client.post(CHAT, counting, slm.headers("hr-2"))
    text = whole.json()["choices"][0]["message"]["content"]
    word = text.split()[1]
    cut = await slm.client.post(CHAT, {**counting, "stop": [word]}, slm.headers("hr-3"))
    assert cut.json()["choices"][0]["message"]["content"] == text[: text.index(word)]
    assert cut.json()["choices"][0]["finish_reason"] == "stop"


async def test_the_official_client_reads_both_kinds_of_answer(slm: SlmBench) -> None:
    async with (
        running(slm.app) as base_url,
        openai.AsyncOpenAI(
            api_key="none", base_url=f"{base_url}/v1", max_retries=0, default_headers=slm.headers()
        ) as client,
    ):
        messages: Any = [{"role": "user", "content": "Say hi"}]
        unary = await client.chat.completions.create(model="m", messages=messages, max_tokens=4)
        assert unary.choices[0].message.content
        assert unary.usage is not None
        other: Any = {"extra_headers": {InternalHeader.REQUEST_ID: "hr-2"}}
        stream = await client.chat.completions.create(
            model="m",
            messages=messages,
            max_tokens=4,
            stream=True,
            stream_options={"include_usage": True},
            **other,
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens <= 4


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_the_engine(
    slm: SlmBench, engine: LlamaCppEngine, stream: bool
) -> None:
    """While another stream keeps the engine busy: that is when llama.cpp notices least by itself."""
    other, _, _ = slm.client.start(
        "POST", CHAT, json.dumps(chat("Tell a tale", stream=True, **LONG)).encode(), slm.headers("hr-other")
    )
    await eventually(lambda: _runs(engine, 1))
    leaving, answer, _ = slm.client.start(
        "POST", CHAT, json.dumps(chat("Tell another", stream=stream, **LONG)).encode(), slm.headers("hr-left")
    )
    await eventually(lambda: _runs(engine, 2))
    if stream:
        await eventually(lambda: _has_sent(answer.chunks))
    leaving.cancel()
    await asyncio.wait({leaving})
    await eventually(lambda: _runs(engine, 1))
    assert not other.done()
    (report,) = slm.ledger.reports
    assert (report.request_id, report.outcome) == ("hr-left", Outcome.CANCELLED)
    assert report.usage.source is UsageSource.ESTIMATED
    assert report.usage.prompt_tokens > 0
    assert (report.usage.completion_tokens > 0) == stream
    assert report.busy_seconds > 0
    assert slm.admission.ongoing == 1
    other.cancel()
    await asyncio.wait({other})


async def _has_sent(chunks: list[bytes]) -> bool:
    return bool(chunks)


async def test_a_client_that_leaves_while_its_prompt_is_read_frees_the_engine(
    slm: SlmBench, engine: LlamaCppEngine
) -> None:
    other, _, _ = slm.client.start(
        "POST", CHAT, json.dumps(chat("Tell a tale", stream=True, **LONG)).encode(), slm.headers("hr-other")
    )
    await eventually(lambda: _runs(engine, 1))
    question = chat("word " * 1900, max_tokens=100)
    leaving, answer, _ = slm.client.start("POST", CHAT, json.dumps(question).encode(), slm.headers("hr-left"))
    await eventually(lambda: _runs(engine, 2))
    leaving.cancel()
    await asyncio.wait({leaving})
    await eventually(lambda: _runs(engine, 1))
    assert not other.done()
    assert answer.status == 0
    other.cancel()
    await asyncio.wait({other})


async def test_who_leaves_while_waiting_has_cost_nothing(engine: LlamaCppEngine) -> None:
    async with running_slm(engine, parallel_sequences=1) as slm:
        first, _, _ = slm.client.start(
            "POST", CHAT, json.dumps(chat("Tell a tale", **LONG)).encode(), slm.headers("hr-1")
        )
        await eventually(lambda: _runs(engine, 1))
        waiting, _, _ = slm.client.start("POST", CHAT, json.dumps(chat()).encode(), slm.headers("hr-2"))
        await asyncio.sleep(0)
        assert slm.admission.ongoing == 2
        assert await _runs(engine, 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert slm.admission.ongoing == 1
        assert [attempt.request_id for attempt in slm.ledger.opened] == ["hr-1"]
        first.cancel()
        await asyncio.wait({first})


async def test_a_full_replica_sends_the_request_elsewhere(engine: LlamaCppEngine) -> None:
    async with running_slm(engine, max_ongoing_requests=1) as slm:
        first, _, _ = slm.client.start(
            "POST", CHAT, json.dumps(chat("Tell a tale", **LONG)).encode(), slm.headers("hr-1")
        )
        await eventually(lambda: _runs(engine, 1))
        refused = await slm.client.post(CHAT, chat(), slm.headers("hr-2"))
        assert refused.status == 429
        assert refused.json()["error"]["code"] == ErrorCode.SLM_OVERLOADED
        assert refused.headers[InternalHeader.FAILURE] == Outcome.THROTTLED
        assert refused.headers["retry-after"] == "1"
        first.cancel()
        await asyncio.wait({first})
        again = await slm.client.post(CHAT, chat(max_tokens=1), slm.headers("hr-3"))
        assert again.status == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_beyond_the_context_says_so_in_openais_terms(slm: SlmBench, stream: bool) -> None:
    answer = await slm.client.post(CHAT, chat("word " * 4000, stream=stream), slm.headers())
    assert answer.status == 400
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", ErrorCode.CONTEXT_LENGTH_EXCEEDED)
    assert "2048" in error["message"]
    assert answer.headers[InternalHeader.FAILURE] == Outcome.CLIENT_ERROR
    report = slm.ledger.report
    assert (report.outcome, report.status) == (Outcome.CLIENT_ERROR, 400)
    assert (report.usage.completion_tokens, report.usage.source) == (0, UsageSource.NONE)


@pytest.mark.parametrize("api", [CHAT, COMPLETIONS])
async def test_the_cap_holds_whatever_else_is_sent(slm: SlmBench, api: str) -> None:
    own = {"n_predict": 50, "n_probs": 50, "ignore_eos": True, "id_slot": 1, "grammar": 'root ::= "a"+'}
    question = {**chat(max_tokens=2, **ENDLESS), "prompt": "Once", **own}
    answer = await slm.client.post(api, question, slm.headers())
    assert answer.status == 200
    (choice,) = answer.json()["choices"]
    assert choice["logprobs"] is None
    assert slm.ledger.report.usage.completion_tokens == 2


@pytest.mark.parametrize(
    "schema",
    [{"$ref": "https://example.com/x"}, {"type": "nothing"}, {"type": "string", "minLength": 9_999_999}],
)
async def test_a_schema_that_the_engine_cannot_read_may_be_served_elsewhere(
    slm: SlmBench, schema: dict[str, Any]
) -> None:
    bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = await slm.client.post(CHAT, chat(response_format=bad), slm.headers())
    assert answer.status == 400
    assert answer.json()["error"]["code"] == ErrorCode.NOT_SERVED_BY_SLM
    assert answer.headers[InternalHeader.FAILURE] == Outcome.CLIENT_ERROR


async def test_another_refusal_of_the_engine_is_the_clients_error(slm: SlmBench) -> None:
    answer = await slm.client.post(CHAT, chat(response_format={"type": "yaml"}), slm.headers())
    assert answer.status == 400
    assert answer.json()["error"]["code"] == ErrorCode.INVALID_REQUEST
    assert "response_format" in answer.json()["error"]["message"]
    assert answer.headers[InternalHeader.FAILURE] == Outcome.CLIENT_ERROR


async def test_an_answer_that_fills_the_context_ends_there() -> None:
    engine = LlamaCppEngine(replace(BUNDLED, context_tokens=256, parallel_sequences=1))
    await engine.start()
    try:
        async with running_slm(engine, parallel_sequences=1) as slm:
            answer = await slm.client.post(CHAT, chat("word " * 180, **ENDLESS), slm.headers())
            assert answer.status == 200
            assert answer.json()["choices"][0]["finish_reason"] == "length"
            usage = slm.ledger.report.usage
            assert usage.prompt_tokens + usage.completion_tokens == 256
    finally:
        await engine.close()


async def test_the_shares_of_requests_add_up_to_the_busy_time(slm: SlmBench) -> None:
    questions = [chat(f"Count to {n}", max_tokens=4 + n, stream=n % 2 == 0) for n in range(6)]
    answers = await asyncio.gather(
        *(
            slm.client.post(CHAT, question, slm.headers(f"hr-{number}"))
            for number, question in enumerate(questions)
        )
    )
    assert [answer.status for answer in answers] == [200] * 6
    assert slm.ledger.all_closed
    shares = sum(report.busy_seconds for report in slm.ledger.reports)
    assert shares == pytest.approx(slm.busy.busy_seconds(0.0))
    assert slm.busy.inflight == 0


async def test_many_streams_at_once_all_end_and_leave_nothing(slm: SlmBench, engine: LlamaCppEngine) -> None:
    answers = await asyncio.gather(
        *(
            slm.client.post(CHAT, chat(max_tokens=1, stream=True), slm.headers(f"hr-{number}"))
            for number in range(100)
        )
    )
    assert {answer.status for answer in answers} == {200}
    assert all(answer.body.endswith(b"data: [DONE]\n\n") for answer in answers)
    assert {report.outcome for report in slm.ledger.reports} == {Outcome.OK}
    assert len(slm.ledger.reports) == 100
    assert (slm.admission.ongoing, slm.busy.inflight) == (0, 0)
    await eventually(lambda: _runs(engine, 0))


@pytest.mark.parametrize(
    "messages",
    [
        [
            {"role": "assistant", "content": "a", "tool_calls": [{}]},
            {"role": "user", "content": "Say hi"},
        ],
        [{"role": "user", "content": "Say hi", "reasoning_content": 5}],
    ],
    ids=["tool call", "reasoning"],
)
async def test_messages_that_the_engine_cannot_read_are_no_failure_of_it(
    slm: SlmBench, messages: list[dict[str, Any]]
) -> None:
    refused = await slm.client.post(CHAT, {"model": "m", "messages": messages}, slm.headers())
    assert (refused.status, refused.json()["error"]["code"]) == (400, ErrorCode.NOT_SERVED_BY_SLM)
    assert refused.headers[InternalHeader.FAILURE] == Outcome.CLIENT_ERROR
    answer = await slm.client.post(CHAT, chat(max_tokens=2), slm.headers("hr-2"))
    assert answer.status == 200
