"""The cascade through the router: the SLM's margin decides before the first byte who answers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.records import CascadeCheck
from hybridroute_api.serving import BudgetPolicy, CascadePolicy, LivePolicy
from hybridroute_api.vocabulary import (
    CascadeVerdict,
    ExhaustedAction,
    Gate,
    InternalHeader,
    Mode,
    Outcome,
    PathName,
)
from hybridroute_serve.router.cascade import BURST_ESCALATIONS, PAUSE_SECONDS, CascadeDesk
from support.eventually import eventually
from support.path_apps import sse
from support.policies import a_policy
from support.router_bench import CARD, SONNET, Bench, failing, streaming

SLM_ANSWER = {"choices": [{"message": {"role": "assistant", "content": "from the slm"}}]}
DONE = b"data: [DONE]\n\n"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def cascading(threshold: float | None = 0.6, max_share: float = 1.0, **changes: Any) -> LivePolicy:
    routing = a_policy().routing.model_copy(
        update={"cascade": CascadePolicy(threshold=threshold, max_share=max_share, tokens=8)}
    )
    return a_policy(routing=routing, **changes)


def sure(margin: str) -> Handler:
    """A whole answer of the SLM with what it says of itself; it says that only where it is asked."""

    async def handle(request: web.Request) -> web.StreamResponse:
        held = InternalHeader.CASCADE_TOKENS in request.headers
        headers = {InternalHeader.CASCADE_MARGIN: margin} if held else {}
        return web.json_response(SLM_ANSWER, headers=headers)

    return handle


def sure_stream(margin: str, then: str = "hang") -> Handler:
    """A stream of the SLM; the one that is held goes on for ever, so that only its cancellation ends it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if InternalHeader.CASCADE_TOKENS not in request.headers:
            return await streaming([sse("asked again"), DONE])(request)
        response = web.StreamResponse(headers={InternalHeader.CASCADE_MARGIN: margin})
        await response.prepare(request)
        await response.write(sse("from the slm"))
        if then == "hang":
            await asyncio.Event().wait()
        await response.write(DONE)
        return response

    return handle


async def test_a_sure_answer_is_passed_on(bench: Bench) -> None:
    await bench.use(cascading())
    bench.paths.handlers[PathName.SLM] = sure("0.812000 8")
    answer = await bench.chat(CARD)
    assert answer.json() == SLM_ANSWER
    assert answer.headers["x-hybridroute-gate"] == "confidence"
    assert answer.headers["x-hybridroute-cascade"] == "passed: margin 0.812 >= 0.600 over 8 tokens"
    assert InternalHeader.CASCADE_MARGIN not in answer.headers
    assert bench.asked == [PathName.SLM]
    assert bench.paths.seen[0][1][InternalHeader.CASCADE_TOKENS] == "8"
    check = bench.ledger.record.cascade
    assert check is not None
    assert (check.verdict, check.margin, check.threshold, check.tokens) == (
        CascadeVerdict.PASSED,
        0.812,
        0.6,
        8,
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_doubtful_answer_is_given_up_for_the_llms(bench: Bench, stream: bool) -> None:
    await bench.use(cascading())
    bench.paths.handlers[PathName.SLM] = sure_stream("0.412000 8") if stream else sure("0.412000 8")
    if stream:
        bench.paths.handlers[PathName.LLM] = streaming([sse("from the llm"), DONE])
    answer = await bench.chat(CARD, stream=stream)
    assert answer.status == 200
    assert b"from the slm" not in answer.body
    assert answer.headers["x-hybridroute-path"] == "llm"
    assert answer.headers["x-hybridroute-gate"] == "cascade"
    assert answer.headers["x-hybridroute-cascade"] == "escalated: margin 0.412 < 0.600 over 8 tokens"
    record = bench.ledger.record
    assert (record.path, record.gate, record.outcome) == (PathName.LLM, Gate.CASCADE, Outcome.OK)
    assert record.reason.startswith("margin 0.412 < 0.600 over 8 tokens; kept on the slm by confidence: ")
    assert record.failed_over_from is None
    assert not record.guarantee_covered
    # It is no failure: the llm-proxy is not told to take a retry token for it.
    assert InternalHeader.FAILED_OVER not in bench.paths.seen[1][1]
    # The SLM's work has been cancelled: its endless stream is closed.
    await eventually(lambda: _closed(bench))


async def _closed(bench: Bench) -> bool:
    return bench.paths.open_requests == 0


async def test_the_cost_of_a_whole_answer_is_that_of_both(bench: Bench) -> None:
    await bench.use(cascading())
    bench.paths.handlers[PathName.SLM] = sure("0.1 8")

    async def priced(_: web.Request) -> web.StreamResponse:
        return web.json_response(SLM_ANSWER, headers={InternalHeader.COST_NANO_USD: "1000000000"})

    bench.paths.handlers[PathName.LLM] = priced
    answer = await bench.chat(CARD)
    assert float(answer.headers["x-hybridroute-cost-usd"]) > 1.0


@pytest.mark.parametrize("said", ["no logprobs", "fewer than two alternatives"])
async def test_an_answer_without_a_margin_is_passed_on(bench: Bench, said: str) -> None:
    await bench.use(cascading())
    bench.paths.handlers[PathName.SLM] = sure(said)
    answer = await bench.chat(CARD)
    assert answer.json() == SLM_ANSWER
    check = bench.ledger.record.cascade
    assert check is not None
    assert (check.verdict, check.margin, check.detail) == (CascadeVerdict.UNSCORED, None, said)


@pytest.mark.parametrize(
    "case", ["off", "forced", "several", "format", "tools", "completions", "llm down", "shadow", "remote"]
)
async def test_what_is_not_for_the_cascade_is_asked_as_ever(bench: Bench, case: str) -> None:
    await bench.use(a_policy() if case == "off" else cascading())
    bench.paths.handlers[PathName.SLM] = sure("0.1 8")
    fields: dict[str, dict[str, Any]] = {
        "forced": {"model": "slm"},
        "several": {"n": 2},
        "format": {"response_format": {"type": "json_object"}},
        "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    }
    if case == "tools":
        await bench.use(cascading(slm=a_policy().slm.model_copy(update={"tools": True})))
    if case == "shadow":
        await bench.use(cascading(mode=Mode.SHADOW, shadow_serve=PathName.SLM))
    if case == "llm down":
        bench.health = type(bench.health)(llm_up=False)
    if case == "completions":
        await bench.client.post("/v1/completions", {"model": "hybridroute", "prompt": CARD})
    else:
        await bench.chat(SONNET if case == "remote" else CARD, **fields.get(case, {}))
    assert bench.asked == [PathName.LLM if case == "remote" else PathName.SLM]
    assert InternalHeader.CASCADE_TOKENS not in bench.paths.seen[0][1]
    assert bench.ledger.record.cascade is None


async def test_without_a_threshold_nothing_is_looked_at_and_that_is_said(bench: Bench) -> None:
    await bench.use(cascading(threshold=None))
    bench.paths.handlers[PathName.SLM] = sure("0.1 8")
    answer = await bench.chat(CARD)
    assert answer.headers["x-hybridroute-cascade"] == "unset: no policy is in force"
    assert InternalHeader.CASCADE_TOKENS not in bench.paths.seen[0][1]
    assert bench.ledger.record.cascade == CascadeCheck(
        CascadeVerdict.UNSET, None, detail="no policy is in force"
    )


async def test_beyond_the_share_the_slms_answer_stands(bench: Bench) -> None:
    await bench.use(cascading(max_share=0.25))
    bench.paths.handlers[PathName.SLM] = sure("0.1 8")
    verdicts = []
    for _ in range(21):
        answer = await bench.chat(CARD)
        assert answer.status == 200
        verdicts.append(bench.ledger.closed[-1].cascade.verdict)  # type: ignore[union-attr]
    # One at once, then one in four.
    assert verdicts.count(CascadeVerdict.ESCALATED) == 1 + 21 // 4
    assert verdicts.count(CascadeVerdict.CAPPED) == 21 - 6
    capped = next(record for record in bench.ledger.closed if record.path is PathName.SLM)
    assert capped.gate is Gate.CONFIDENCE


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("action", list(ExhaustedAction))
async def test_a_spent_budget_lets_the_answer_stand_and_ends_the_looking(
    bench: Bench, stream: bool, action: ExhaustedAction
) -> None:
    budget = BudgetPolicy(
        limit_nano_usd=1, window="24h", on_exhausted=action, on_exhausted_out_of_scope=action
    )
    await bench.use(cascading(budget=budget))
    bench.paths.handlers[PathName.SLM] = sure_stream("0.1 8") if stream else sure("0.1 8")
    bench.paths.handlers[PathName.LLM] = failing(429, Outcome.UNAFFORDABLE, "budget_exhausted")
    answer = await bench.chat(CARD, stream=stream)
    assert answer.status == 200
    assert (answer.headers["x-hybridroute-path"], answer.headers["x-hybridroute-gate"]) == (
        "slm",
        "confidence",
    )
    assert (b"asked again" if stream else b"from the slm") in answer.body
    record = bench.ledger.record
    assert (record.path, record.gate, record.outcome) == (PathName.SLM, Gate.CONFIDENCE, Outcome.OK)
    assert record.reason.endswith("margin 0.100 < 0.600 over 8 tokens, but llm unaffordable")
    again = [headers for path, headers, _ in bench.paths.seen if path is PathName.SLM]
    assert len(again) == (2 if stream else 1)
    if stream:
        assert again[1][InternalHeader.ATTEMPT] == "2"

    bench.paths.handlers[PathName.LLM] = failing(500, Outcome.UPSTREAM_ERROR)
    await bench.chat(CARD, stream=stream)
    check = bench.ledger.closed[-1].cascade
    assert check is not None
    assert (check.verdict, check.margin) == (CascadeVerdict.UNAFFORDABLE, None)
    assert bench.asked.count(PathName.LLM) == 1

    bench.skipped_seconds = PAUSE_SECONDS
    await bench.chat(CARD, stream=stream)
    assert bench.asked.count(PathName.LLM) == 2
    await bench.chat(CARD, stream=stream)
    check = bench.ledger.closed[-1].cascade
    assert check is not None
    assert check.verdict is CascadeVerdict.UNAVAILABLE


async def test_an_llm_that_refuses_the_request_lets_the_answer_stand(bench: Bench) -> None:
    await bench.use(cascading())
    bench.paths.handlers[PathName.SLM] = sure("0.1 8")
    bench.paths.handlers[PathName.LLM] = failing(400, Outcome.CLIENT_ERROR)
    for _ in range(2):
        answer = await bench.chat(CARD)
        assert answer.json() == SLM_ANSWER
    assert bench.asked.count(PathName.LLM) == 2


async def test_an_slm_that_fails_is_replaced_as_ever(bench: Bench) -> None:
    await bench.use(cascading())
    bench.paths.handlers[PathName.SLM] = failing(503, Outcome.UPSTREAM_ERROR)
    answer = await bench.chat(CARD)
    assert answer.headers["x-hybridroute-gate"] == "health"
    assert bench.ledger.record.cascade is None
    assert bench.paths.seen[1][1][InternalHeader.FAILED_OVER] == "1"


async def test_a_caller_whose_time_is_up_is_told_so(bench: Bench) -> None:
    await bench.use(cascading())
    bench.paths.handlers[PathName.SLM] = sure_stream("0.1 8")

    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    bench.paths.handlers[PathName.LLM] = slow
    answer = await bench.chat(CARD, {"x-request-timeout": "0.3"}, stream=True)
    assert answer.status == 504
    assert bench.ledger.record.outcome is Outcome.TIMEOUT


async def test_a_client_cannot_ask_for_a_look(bench: Bench) -> None:
    await bench.chat(CARD, {InternalHeader.CASCADE_TOKENS: "1", InternalHeader.ATTEMPT: "7"})
    assert not {InternalHeader.CASCADE_TOKENS, InternalHeader.ATTEMPT} & set(bench.paths.seen[0][1])


@given(
    st.lists(st.tuples(st.floats(0.001, 1.0), st.booleans()), max_size=300),
    st.integers(min_value=1, max_value=20),
)
def test_no_run_of_requests_escalates_more_than_its_share(
    requests: list[tuple[float, bool]], replicas: int
) -> None:
    desk = CascadeDesk(replicas=lambda: replicas)
    cap = max(1.0, BURST_ESCALATIONS / replicas)
    shares: list[float] = []
    escalated: list[bool] = []
    for max_share, doubtful in requests:
        desk.count_request(CascadePolicy(threshold=0.5, max_share=max_share, tokens=1))
        shares.append(max_share)
        escalated.append(doubtful and desk.take_escalation())
    for start in range(0, len(requests), 7):
        for end in range(start + 1, len(requests) + 1, 5):
            assert sum(escalated[start:end]) <= cap + sum(shares[start:end]) + 1e-6
    assert sum(escalated) <= 1.0 + sum(shares) + 1e-6
