"""What a client gets when the dollar budget does not bear the LLM, over real HTTP.

The rows are those of the table in `routing.decision`.
"""

import asyncio

import pytest
from aiohttp import web

from hybridroute_api.serving import AuthPolicy, BudgetPolicy
from hybridroute_api.vocabulary import (
    ErrorCode,
    ExhaustedAction,
    Gate,
    Header,
    InternalHeader,
    Mode,
    Outcome,
    PathName,
)
from hybridroute_serve.routing.facts import PathHealth
from support.client_files import ClientsFile
from support.path_apps import sse
from support.policies import a_policy
from support.router_bench import CARD, SONNET, Bench, failing, streaming

DEGRADE, REJECT = ExhaustedAction.DEGRADE, ExhaustedAction.REJECT
SLM, LLM = PathName.SLM, PathName.LLM
FRANCE = "what is the capital of france"
"""Resembles no example."""
IMAGE = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
]
RESETS_AT = "1764000000"


async def unaffordable(_: web.Request) -> web.StreamResponse:
    message = "The dollar budget of this service does not bear the request."
    body = {"error": {"message": message, "type": "q", "param": None, "code": ErrorCode.BUDGET_EXHAUSTED}}
    headers = {
        InternalHeader.FAILURE: Outcome.UNAFFORDABLE,
        Header.RESETS_AT: RESETS_AT,
        "retry-after": "600",
        "x-should-retry": "false",
    }
    return web.json_response(body, status=429, headers=headers)


async def spend_it_all(bench: Bench, fit: ExhaustedAction, unfit: ExhaustedAction, **changes: object) -> None:
    budget = BudgetPolicy(
        limit_nano_usd=50 * 10**9, window="24h", on_exhausted=fit, on_exhausted_out_of_scope=unfit
    )
    await bench.use(a_policy(budget=budget, **changes))
    bench.paths.handlers[LLM] = unaffordable


def near_miss() -> dict[str, object]:
    """Every request is escalated; the known ones are fit for the SLM."""
    routing = a_policy().routing
    return {"routing": routing.model_copy(update={"threshold": 1.0, "scope_threshold": 0.5})}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("text", "actions", "field"),
    [(CARD, (DEGRADE, REJECT), "onExhausted"), (FRANCE, (REJECT, DEGRADE), "onExhaustedOutOfScope")],
)
async def test_degrade_is_answered_by_the_slm_and_says_so(bench, text, actions, field, stream):
    await spend_it_all(bench, *actions, **near_miss())
    if stream:
        bench.paths.handlers[SLM] = streaming([sse("hi"), b"data: [DONE]\n\n"])

    answer = await bench.chat(text, stream=stream)

    assert answer.status == 200
    assert (answer.headers[Header.PATH], answer.headers[Header.GATE]) == ("slm", "budget")
    assert answer.headers[Header.RESETS_AT] == RESETS_AT
    assert not {"retry-after", "x-should-retry"} & answer.headers.keys()
    assert bench.asked == [LLM, SLM]
    assert bench.paths.seen[1][1][InternalHeader.GATE] == "budget"
    record = bench.ledger.record
    assert (record.path, record.gate, record.outcome) == (SLM, Gate.BUDGET, Outcome.OK)
    assert record.reason.startswith(
        "llm unaffordable: The dollar budget of this service does not bear the request, "
        f"route USD 50 per 24h, resets at 2025-11-24T16:00:00Z; {field} Degrade; meant for it by "
    )
    assert record.confidence is not None


@pytest.mark.parametrize(
    ("text", "fit", "unfit", "field"),
    [(CARD, REJECT, DEGRADE, "onExhausted"), (FRANCE, DEGRADE, REJECT, "onExhaustedOutOfScope")],
)
async def test_reject_passes_the_429_on_with_the_time_of_reset(bench, text, fit, unfit, field):
    await spend_it_all(bench, fit, unfit, **near_miss())

    answer = await bench.chat(text)

    assert (answer.status, answer.json()["error"]["code"]) == (429, "budget_exhausted")
    assert answer.headers[Header.RESETS_AT] == RESETS_AT
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("600", "false")
    assert answer.headers[Header.GATE] == "budget"
    assert bench.asked == [LLM]
    record = bench.ledger.record
    assert (record.status, record.gate, record.outcome) == (429, Gate.BUDGET, Outcome.UNAFFORDABLE)
    assert record.error_code == "budget_exhausted"
    assert f"; {field} Reject; " in record.reason


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"mode": Mode.LLM_ONLY}, {}),
        ({}, {"model": "llm"}),
        ({}, {"messages": IMAGE}),
        ({}, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
    ],
    ids=["mode", "model", "image", "tools"],
)
async def test_what_may_not_go_to_the_slm_is_refused_even_where_both_fields_degrade(bench, changes, fields):
    await spend_it_all(bench, DEGRADE, DEGRADE, **changes)

    answer = await bench.chat(CARD, **fields)

    assert (answer.status, answer.headers[Header.GATE]) == (429, "budget")
    assert bench.asked == [LLM]
    assert "the slm may not serve it" in bench.ledger.record.reason


async def test_without_examples_nothing_is_known_to_be_fit(bench):
    routing = a_policy().routing.model_copy(update={"local_examples": (), "remote_examples": ()})
    await spend_it_all(bench, DEGRADE, REJECT, routing=routing)
    refused = await bench.chat(CARD)
    await spend_it_all(bench, REJECT, DEGRADE, routing=routing)
    served = await bench.chat(CARD)

    assert (refused.status, served.status) == (429, 200)
    assert served.headers[Header.PATH] == "slm"


async def test_a_conversation_that_began_on_the_llm_follows_the_field_for_what_is_not_known(bench):
    policy = a_policy()
    changes = {"slm": policy.slm.model_copy(update={"tools": True})}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    first = [{"role": "user", "content": SONNET}]
    await bench.use(a_policy(**changes))
    await bench.chat(SONNET, tools=tools)
    assert bench.ledger.record.path is LLM
    call = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]}
    turn = [*first, call, {"role": "tool", "tool_call_id": "1", "content": "x"}]

    await spend_it_all(bench, DEGRADE, REJECT, **changes)
    refused = await bench.chat("", messages=turn, tools=tools)
    await spend_it_all(bench, REJECT, DEGRADE, **changes)
    served = await bench.chat("", messages=turn, tools=tools)

    assert (refused.status, served.status) == (429, 200)
    assert "meant for it by forced: conversation" in bench.ledger.closed[-1].reason


@pytest.mark.parametrize("outcome", [Outcome.UPSTREAM_ERROR, Outcome.THROTTLED])
async def test_what_the_slm_has_failed_and_the_llm_cannot_pay_for_is_429_by_the_budget(bench, outcome):
    await spend_it_all(bench, DEGRADE, DEGRADE)
    bench.paths.handlers[SLM] = failing(503, outcome)

    answer = await bench.chat(CARD)

    assert (answer.status, answer.headers[Header.GATE]) == (429, "budget")
    assert bench.asked == [SLM, LLM]
    assert bench.ledger.record.failed_over_from is SLM


async def test_an_slm_that_is_down_is_nowhere_to_degrade_to(bench):
    await spend_it_all(bench, DEGRADE, DEGRADE, **near_miss())
    bench.health = PathHealth(slm_up=False, slm_detail="no ready replica")

    answer = await bench.chat(CARD)

    assert (answer.status, answer.headers[Header.GATE]) == (429, "budget")
    assert "but slm no ready replica" in bench.ledger.record.reason
    assert bench.asked == [LLM]


async def test_an_slm_that_fails_what_it_was_given_by_the_budget_says_its_own_error(bench):
    await spend_it_all(bench, DEGRADE, REJECT, **near_miss())
    bench.paths.handlers[SLM] = failing(503, Outcome.UPSTREAM_ERROR)

    answer = await bench.chat(CARD)

    assert (answer.status, answer.json()["error"]["code"]) == (503, "path_unavailable")
    assert (answer.headers[Header.GATE], answer.headers[Header.RESETS_AT]) == ("budget", RESETS_AT)
    assert bench.asked == [LLM, SLM]


async def test_a_clients_own_budget_is_named_with_its_limit(bench, tmp_path):
    file = ClientsFile(tmp_path / "clients.yaml")
    key = "sk-0123456789abcdef"
    file.write({"name": "bot", "keys": [key], "budget": {"limitUSD": "2.50", "window": "month"}})
    await bench.use(a_policy(auth=AuthPolicy(keys_file=str(file.path)), **near_miss()))
    bench.paths.handlers[LLM] = unaffordable

    answer = await bench.chat(CARD, {"authorization": f"Bearer {key}"})

    assert answer.headers[Header.GATE] == "budget"
    assert "client bot USD 2.5 per month" in bench.ledger.record.reason


@pytest.mark.parametrize(
    ("status", "outcome", "code", "sent"),
    [
        (503, Outcome.UPSTREAM_ERROR, "path_unavailable", "1"),
        (504, Outcome.TIMEOUT, "timeout", "1"),
        (429, Outcome.THROTTLED, "slm_overloaded", "1"),
        (400, Outcome.CLIENT_ERROR, "context_length_exceeded", None),
        (400, Outcome.CLIENT_ERROR, "not_served_by_slm", None),
    ],
)
async def test_only_a_failure_is_paid_from_the_retry_budget(bench, status, outcome, code, sent):
    bench.paths.handlers[SLM] = failing(status, outcome, code)

    await bench.chat(CARD)

    (_, first, _), (path, second, _) = bench.paths.seen
    assert path is LLM
    assert InternalHeader.FAILED_OVER not in first
    assert second.get(InternalHeader.FAILED_OVER) == sent


async def test_an_escalation_and_an_slm_known_to_be_down_cost_no_retry_token(bench):
    await bench.chat(SONNET)
    bench.health = PathHealth(slm_up=False)
    await bench.chat(CARD)

    assert bench.asked == [LLM, LLM]
    assert not [1 for _, headers, _ in bench.paths.seen if InternalHeader.FAILED_OVER in headers]


async def test_an_slm_that_keeps_failing_is_left_alone_until_it_is_tried_again(bench):
    bench.paths.handlers[SLM] = failing(503, Outcome.UPSTREAM_ERROR)
    for _ in range(5):
        await bench.chat(CARD)
    tried = bench.asked.count(SLM)
    answer = await bench.chat(CARD)
    forced = await bench.chat(CARD, model="slm")

    assert (tried, bench.asked.count(SLM)) == (5, 6)
    assert (answer.headers[Header.PATH], answer.headers[Header.GATE]) == ("llm", "health")
    assert bench.ledger.closed[5].reason.startswith("slm failing; meant for it by confidence")
    assert InternalHeader.FAILED_OVER not in bench.paths.seen[-2][1]
    assert forced.status == 503

    bench.paths.handlers[SLM] = streaming([sse("hi")])
    bench.skipped_seconds = 10.0
    assert (await bench.chat(CARD)).headers[Header.PATH] == "slm"
    assert (await bench.chat(CARD)).headers[Header.PATH] == "slm"


async def test_a_full_slm_is_given_the_second_that_it_asked_for(bench):
    bench.paths.handlers[SLM] = failing(429, Outcome.THROTTLED, "slm_overloaded")
    await bench.chat(CARD)
    second = await bench.chat(CARD)
    bench.paths.handlers[SLM] = streaming([sse("hi")])
    bench.skipped_seconds = 1.0
    third = await bench.chat(CARD)

    assert bench.asked == [SLM, LLM, LLM, SLM]
    assert second.headers[Header.GATE] == "overflow"
    assert bench.ledger.closed[1].reason.startswith("slm full; meant for it by confidence")
    assert third.headers[Header.PATH] == "slm"


async def test_a_client_that_leaves_a_probe_leaves_it_to_the_next(bench):
    bench.paths.handlers[SLM] = failing(503, Outcome.UPSTREAM_ERROR)
    for _ in range(5):
        await bench.chat(CARD)
    bench.skipped_seconds = 10.0
    bench.paths.handlers[SLM] = hang
    bench.paths.arrived.clear()
    body = b'{"model":"hybridroute","messages":[{"role":"user","content":"%s"}]}' % CARD.encode()
    task, _, _ = bench.client.start("POST", "/v1/chat/completions", body)
    await asyncio.wait_for(bench.paths.arrived.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.paths.handlers[SLM] = streaming([sse("hi")])

    assert (await bench.chat(CARD)).headers[Header.PATH] == "slm"


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@pytest.mark.parametrize(("text", "status", "path"), [(CARD, 200, "slm"), (FRANCE, 503, "llm")])
async def test_an_exhausted_retry_budget_is_said_whoever_answers_in_the_end(bench, text, status, path):
    await bench.use(a_policy(**near_miss()))
    bench.paths.handlers[LLM] = failing(
        503,
        Outcome.UPSTREAM_ERROR,
        **{Header.RETRY_BUDGET: "exhausted", "retry-after": "2", "x-should-retry": "false"},
    )

    answer = await bench.chat(text)

    assert (answer.status, answer.headers[Header.PATH]) == (status, path)
    assert answer.headers[Header.RETRY_BUDGET] == "exhausted"
    assert ("retry-after" in answer.headers) == (status == 503)
