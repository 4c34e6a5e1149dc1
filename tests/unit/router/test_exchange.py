"""One request through the router, over real HTTP to scripted paths."""

import asyncio
import json

import pytest
from aiohttp import web

from hybridroute_api.vocabulary import ErrorCode, Gate, InternalHeader, Mode, Outcome, PathName
from hybridroute_serve.routing.facts import PathHealth
from support.path_apps import sse
from support.policies import a_policy
from support.router_bench import CARD, SONNET, failing, streaming


async def test_in_domain_stays_on_the_slm_and_the_record_has_the_numbers(bench):
    answer = await bench.chat(CARD)

    assert answer.status == 200
    assert answer.headers["x-hybridroute-path"] == "slm"
    assert answer.headers["x-hybridroute-gate"] == "confidence"
    assert float(answer.headers["x-hybridroute-confidence"]) == pytest.approx(bench.ledger.record.confidence)
    record = bench.ledger.record
    assert (record.path, record.gate, record.outcome, record.status) == (
        PathName.SLM,
        Gate.CONFIDENCE,
        Outcome.OK,
        200,
    )
    assert record.confidence >= record.threshold
    assert record.nearest == "how do I freeze my card"
    assert record.policy_version == bench.holder.active.document.version
    assert [o.request_id for o in bench.ledger.opened] == [record.request_id]
    assert answer.headers["x-hybridroute-request-id"] == record.request_id


@pytest.mark.parametrize(
    ("presented", "repeated"), [("the-client's", True), ("two words", False), ("x" * 201, False)]
)
async def test_an_answer_has_its_clients_name_or_else_ours_where_openais_clients_look(
    bench, presented, repeated
):
    answer = await bench.chat(CARD)
    assert answer.headers["x-request-id"] == bench.ledger.record.request_id

    body = json.dumps({"model": "hybridroute", "messages": [{"role": "user", "content": CARD}]}).encode()
    answer = await bench.client.request("POST", "/v1/chat/completions", body, {"x-request-id": presented})
    assert answer.status == 200
    named = presented if repeated else answer.headers["x-hybridroute-request-id"]
    assert answer.headers["x-request-id"] == named


async def test_out_of_domain_is_escalated(bench):
    answer = await bench.chat(SONNET)

    assert answer.headers["x-hybridroute-path"] == "llm"
    assert bench.ledger.record.path is PathName.LLM


async def test_the_body_travels_unchanged_and_client_headers_are_cleaned(bench):
    body = b'{ "model":"hybridroute","messages":[{"role":"user","content":"what is my balance"}],"x":1e400 }'.replace(
        b"1e400", b"[1,  2]"
    )
    await bench.client.request(
        "POST",
        "/v1/chat/completions",
        body,
        {
            "authorization": "Bearer client-key",
            "x-hybridroute-internal-token": "forged",
            "x-hybridroute-gate": "forged",
            "x-request-timeout-seconds": "1",
            "x-request-disconnect-disabled": "true",
            "connection": "close, x-named",
            "x-named": "1",
            "te": "trailers",
            "openai-organization": "acme",
        },
    )

    path, headers, seen = bench.paths.seen[0]
    assert path is PathName.SLM
    assert seen == body
    assert headers["x-hybridroute-internal-token"] == "secret"
    assert headers["x-hybridroute-gate"] == "confidence"
    assert headers["x-hybridroute-request-id"] == bench.ledger.record.request_id
    for name in (
        "authorization",
        "x-request-timeout-seconds",
        "x-request-disconnect-disabled",
        "te",
        "x-named",
        "openai-organization",
    ):
        assert name not in headers


async def test_headers_that_an_ingress_would_refuse_are_the_clients_fault(bench) -> None:
    answer = await bench.chat(CARD, headers={"tracestate": "x" * 8200})

    assert answer.status == 400
    assert "tracestate are longer than 8192 bytes" in answer.json()["error"]["message"]
    assert bench.asked == []
    assert bench.ledger.record.outcome is Outcome.CLIENT_ERROR


async def test_any_number_of_other_headers_stays_here(bench) -> None:
    answer = await bench.chat(CARD, headers={f"x-mine-{number}": "x" * 100 for number in range(95)})

    assert answer.status == 200
    assert not [name for name in bench.paths.seen[0][1] if name.startswith("x-mine")]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "outcome", "gate"),
    [
        (503, Outcome.UPSTREAM_ERROR, Gate.HEALTH),
        (429, Outcome.THROTTLED, Gate.OVERFLOW),
        (504, Outcome.TIMEOUT, Gate.HEALTH),
    ],
)
async def test_an_slm_that_fails_before_content_is_replaced(bench, status, outcome, gate, stream):
    bench.paths.handlers[PathName.SLM] = failing(status, outcome)
    if stream:
        bench.paths.handlers[PathName.LLM] = streaming([sse("hi"), b"data: [DONE]\n\n"])

    answer = await bench.chat(CARD, stream=stream)

    assert answer.status == 200
    assert (answer.headers["x-hybridroute-path"], answer.headers["x-hybridroute-gate"]) == ("llm", gate)
    record = bench.ledger.record
    assert (record.path, record.failed_over_from, record.gate) == (PathName.LLM, PathName.SLM, gate)


async def test_llm_down_keeps_a_near_miss_on_the_slm_and_refuses_what_is_out_of_scope(bench):
    policy = a_policy()
    await bench.use(
        a_policy(routing=policy.routing.model_copy(update={"threshold": 0.999, "scope_threshold": 0.5}))
    )
    bench.paths.handlers[PathName.LLM] = failing(503, Outcome.UPSTREAM_ERROR)

    kept = await bench.chat(CARD)
    refused = await bench.chat("what is the capital of france")

    assert (kept.status, kept.headers["x-hybridroute-path"], kept.headers["x-hybridroute-gate"]) == (
        200,
        "slm",
        "health",
    )
    assert refused.status == 503
    assert refused.json()["error"]["code"] == "path_unavailable"
    assert [r.outcome for r in bench.ledger.closed] == [Outcome.OK, Outcome.UPSTREAM_ERROR]


async def test_a_prompt_too_long_for_the_slm_is_escalated_by_capability(bench):
    bench.paths.handlers[PathName.SLM] = failing(400, Outcome.CLIENT_ERROR, ErrorCode.CONTEXT_LENGTH_EXCEEDED)

    answer = await bench.chat(CARD)

    assert answer.headers["x-hybridroute-path"] == "llm"
    assert answer.headers["x-hybridroute-gate"] == "capability"


@pytest.mark.parametrize(
    "asked", [{"modalities": ["text", "audio"]}, {"audio": {"voice": "alloy"}}, {"web_search_options": {}}]
)
async def test_what_the_slm_cannot_do_for_its_answer_is_escalated_by_capability(bench, asked):
    answer = await bench.chat(CARD, **asked)

    assert answer.headers["x-hybridroute-path"] == "llm"
    assert answer.headers["x-hybridroute-gate"] == "capability"
    assert [path for path, _, _ in bench.paths.seen] == [PathName.LLM]


async def test_a_clients_own_error_is_passed_on_and_never_tried_elsewhere(bench):
    bench.paths.handlers[PathName.SLM] = failing(400, Outcome.CLIENT_ERROR, "invalid_value")

    answer = await bench.chat(CARD)

    assert answer.status == 400
    assert answer.json()["error"]["code"] == "invalid_value"
    assert InternalHeader.FAILURE not in answer.headers
    assert [path for path, _, _ in bench.paths.seen] == [PathName.SLM]
    assert bench.ledger.record.error_code == "invalid_value"


@pytest.mark.parametrize("status", [404, 408, 500, 503])
async def test_plain_text_errors_of_the_ingress_count_as_path_down(bench, status):
    async def plain(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="Internal Server Error")

    bench.paths.handlers[PathName.SLM] = plain

    answer = await bench.chat(CARD)

    assert (answer.status, answer.headers["x-hybridroute-path"]) == (200, "llm")


async def test_a_stream_is_passed_through_byte_for_byte(bench):
    sent = [sse("a"), sse("b", "c"), b"data: [DONE]\n\n"]
    bench.paths.handlers[PathName.SLM] = streaming(sent)

    answer = await bench.chat(CARD, stream=True)

    assert answer.body == b"".join(sent)
    assert answer.headers["content-type"] == "text/event-stream"
    assert bench.ledger.record.outcome is Outcome.OK
    assert bench.ledger.record.stream


async def test_what_arrives_with_a_streams_end_leaves_with_it(bench):
    async def whole(_: web.Request) -> web.StreamResponse:
        return web.Response(body=sse("a") + b"data: [DONE]\n\n", content_type="text/event-stream")

    bench.paths.handlers[PathName.SLM] = whole

    answer = await bench.chat(CARD, stream=True)

    assert answer.chunks == [sse("a") + b"data: [DONE]\n\n"]
    assert bench.ledger.record.outcome is Outcome.OK


async def test_a_stream_that_ends_without_done_is_cut(bench):
    bench.paths.handlers[PathName.SLM] = streaming([sse("a"), sse("b")])

    answer = await bench.chat(CARD, stream=True)

    assert answer.body == sse("a") + sse("b")
    assert (bench.ledger.record.outcome, bench.ledger.record.error_code) == (
        Outcome.CUT,
        ErrorCode.STREAM_CUT,
    )


async def test_a_cut_stream_ends_with_an_error_event_and_no_done(bench):
    bench.paths.handlers[PathName.SLM] = streaming([sse("a"), b'data: {"cho'], then="cut")

    answer = await bench.chat(CARD, stream=True)

    events = answer.body.split(b"\n\n")
    assert json.loads(events[-2].removeprefix(b"data: "))["error"]["code"] == "stream_cut"
    assert b"[DONE]" not in answer.body
    assert bench.ledger.record.outcome is Outcome.CUT
    assert [path for path, _, _ in bench.paths.seen] == [PathName.SLM]


async def test_a_client_that_leaves_closes_the_path_and_is_recorded(bench):
    bench.paths.handlers[PathName.SLM] = streaming([sse("a")], then="hang")
    body = json.dumps(
        {"model": "hybridroute", "stream": True, "messages": [{"role": "user", "content": CARD}]}
    ).encode()
    task, answer, progressed = bench.client.start("POST", "/v1/chat/completions", body)
    while not answer.chunks:
        await progressed.wait()
        progressed.clear()
    bench.paths.closed.clear()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(bench.paths.closed.wait(), 5)

    assert bench.paths.open_requests == 0
    record = bench.ledger.record
    assert (record.outcome, record.status) == (Outcome.CANCELLED, 200)


async def test_a_client_that_leaves_before_any_answer_is_a_499(bench):
    bench.paths.handlers[PathName.SLM] = streaming([], then="hang")
    body = json.dumps({"model": "hybridroute", "messages": [{"role": "user", "content": CARD}]}).encode()
    task, _, _ = bench.client.start("POST", "/v1/chat/completions", body)
    await asyncio.wait_for(bench.paths.arrived.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (bench.ledger.record.outcome, bench.ledger.record.status) == (Outcome.CANCELLED, 499)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_request"),
        (b'{"model":"hybridroute","messages":[]}', 400, "invalid_request"),
        (b'{"model":"gpt-9","messages":[{"role":"user","content":"hi"}]}', 404, "model_not_found"),
        (b" " * ((1 << 20) + 1), 413, "body_too_large"),
    ],
)
async def test_bad_requests_are_answered_and_recorded(bench, body, status, code):
    answer = await bench.client.request("POST", "/v1/chat/completions", body, pieces=3)

    assert answer.status == status
    assert answer.json()["error"]["code"] == code
    assert answer.headers["x-hybridroute-request-id"] == bench.ledger.record.request_id
    assert bench.ledger.record.status == status
    assert bench.ledger.record.outcome is Outcome.CLIENT_ERROR
    assert not bench.paths.seen
    assert not bench.ledger.opened


async def test_without_a_policy_the_answer_is_503_with_retry_after(bench, embedder):
    bench.holder._active = None

    answer = await bench.chat(CARD)

    assert (answer.status, answer.json()["error"]["code"]) == (503, "starting")
    assert answer.headers["retry-after"] == "1"
    assert bench.ledger.record.status == 503


async def test_a_tool_result_goes_where_its_call_was_made(bench):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    policy = a_policy()
    await bench.use(a_policy(slm=policy.slm.model_copy(update={"tools": True})))
    first = [{"role": "user", "content": CARD}]
    await bench.client.post(
        "/v1/chat/completions", {"model": "hybridroute", "messages": first, "tools": tools}
    )
    call = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]}
    result = {"role": "tool", "tool_call_id": "1", "content": SONNET}
    turn = {"model": "hybridroute", "messages": [*first, call, result], "tools": tools}
    answer = await bench.client.post("/v1/chat/completions", turn)

    assert answer.headers["x-hybridroute-path"] == "slm"
    assert answer.headers["x-hybridroute-gate"] == "forced"
    assert bench.ledger.closed[0].conversation_key is not None

    elsewhere = [{"role": "user", "content": "what is my balance"}]
    parsed_key = bench.ledger.closed[0].conversation_key
    bench.keeper.known[parsed_key] = PathName.SLM
    unknown = {"model": "hybridroute", "messages": [*elsewhere, call, result], "tools": tools}
    answer = await bench.client.post("/v1/chat/completions", unknown)
    assert answer.headers["x-hybridroute-gate"] != "forced"


@pytest.mark.parametrize(("mode", "path"), [(Mode.LLM_ONLY, "llm"), (Mode.LOCAL_ONLY, "slm")])
async def test_the_kill_switch_forces_a_path(bench, mode, path):
    await bench.use(a_policy(mode=mode))

    for text in (CARD, SONNET):
        answer = await bench.chat(text)
        assert (answer.headers["x-hybridroute-path"], answer.headers["x-hybridroute-gate"]) == (
            path,
            "forced",
        )


async def test_prompt_text_is_recorded_only_when_asked_for(bench):
    await bench.chat(CARD)
    policy = a_policy()
    await bench.use(a_policy(records=policy.records.model_copy(update={"prompt_text": True})))
    await bench.chat(CARD)

    assert [record.prompt_text for record in bench.ledger.closed] == [None, CARD]


async def test_slm_down_by_health_moves_to_the_llm_before_anything_is_sent(bench):
    bench.health = PathHealth(slm_up=False, slm_detail="no ready replica")

    answer = await bench.chat(CARD)

    assert (answer.headers["x-hybridroute-path"], answer.headers["x-hybridroute-gate"]) == ("llm", "health")
    assert [path for path, _, _ in bench.paths.seen] == [PathName.LLM]


async def test_the_cost_header_of_an_llm_answer_is_the_proxys_price(bench):
    async def priced(_: web.Request) -> web.StreamResponse:
        return web.json_response({"choices": []}, headers={InternalHeader.COST_NANO_USD: "1234567"})

    bench.paths.handlers[PathName.LLM] = priced

    answer = await bench.chat(SONNET)

    assert answer.headers["x-hybridroute-cost-usd"] == "0.001234567"
    assert InternalHeader.COST_NANO_USD not in answer.headers


async def test_who_waits_for_an_slm_without_replicas_is_called_back_to_the_llm(bench):
    bench.paths.handlers[PathName.SLM] = streaming([], then="hang")
    task = asyncio.create_task(bench.chat(CARD))
    await asyncio.wait_for(bench.paths.arrived.wait(), 5)
    bench.recall.recall_all()
    answer = await asyncio.wait_for(task, 5)

    assert (answer.status, answer.headers["x-hybridroute-path"]) == (200, "llm")
    assert answer.headers["x-hybridroute-gate"] == "health"
    assert bench.ledger.record.failed_over_from is PathName.SLM


async def test_who_may_not_go_elsewhere_is_not_called_back(bench):
    done = asyncio.Event()

    async def late(_: web.Request) -> web.StreamResponse:
        await done.wait()
        return web.json_response({"choices": []})

    bench.paths.handlers[PathName.SLM] = late
    await bench.use(a_policy(mode=Mode.LOCAL_ONLY))
    task = asyncio.create_task(bench.chat(CARD))
    await asyncio.wait_for(bench.paths.arrived.wait(), 5)
    bench.recall.recall_all()
    done.set()
    answer = await asyncio.wait_for(task, 5)

    assert (answer.status, answer.headers["x-hybridroute-path"]) == (200, "slm")


async def test_a_stream_that_has_begun_is_not_called_back(bench):
    bench.paths.handlers[PathName.SLM] = streaming([sse("a"), b"data: [DONE]\n\n"])
    answer = await bench.chat(CARD, stream=True)
    bench.recall.recall_all()

    assert answer.headers["x-hybridroute-path"] == "slm"
    assert bench.ledger.record.outcome is Outcome.OK


async def test_compressed_bodies_are_refused_and_not_unpacked(bench):
    answer = await bench.client.request(
        "POST", "/v1/chat/completions", b"\x1f\x8b", {"content-encoding": "gzip"}
    )

    assert (answer.status, answer.json()["error"]["code"]) == (415, "unsupported_content_encoding")
    assert bench.ledger.record.outcome is Outcome.CLIENT_ERROR
