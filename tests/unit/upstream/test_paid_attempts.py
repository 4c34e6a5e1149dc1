"""Dollars of attempts: reserved before anything is sent, settled by usage, in full when nobody knows."""

import asyncio
from typing import Any

import pytest

from hybridroute_api.serving import UpstreamTimeouts
from hybridroute_api.vocabulary import ErrorCode, Header, InternalHeader, Outcome
from hybridroute_serve.keeper.budget_client import DeniedReason
from support.attempts import ProxyBench
from support.eventually import eventually
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
    finish_event,
    hang_after_headers,
    hang_before_headers,
    reset_after_headers,
    reset_before_answer,
    role_event,
    stream,
    stream_cut,
    stream_then_hang,
    usage_event,
)

RICH = 10**12
USAGE_COST = 100 * 2_500 + 20 * 10_000
OUTPUT_TOKEN = 10_000
HASTY = UpstreamTimeouts(connect_seconds=1.0, first_byte_seconds=0.3, total_seconds=0.6)
HELLO = (role_event(), content_event("Hello"))
UNCOUNTED = {key: value for key, value in chat_answer().items() if key != "usage"}


@pytest.fixture
def paying(bench: ProxyBench) -> ProxyBench:
    bench.accounts.balance_nano_usd = RICH
    return bench


def spent(bench: ProxyBench) -> int:
    assert bench.accounts.balance_nano_usd is not None
    return RICH - bench.accounts.balance_nano_usd


@pytest.mark.parametrize(
    ("script", "stream_asked"),
    [
        (answer_json(chat_answer()), False),
        (stream([*HELLO, finish_event(), usage_event(), DONE]), True),
        (stream_cut([*HELLO, usage_event()]), True),
    ],
    ids=["unary", "stream", "cut after its usage"],
)
async def test_what_was_used_is_settled(
    paying: ProxyBench, upstream: ScriptedUpstream, script: Script, stream_asked: bool
) -> None:
    upstream.default = script

    await paying.ask(stream=stream_asked, headers={InternalHeader.CLIENT: "shop"})

    assert paying.accounts.settled == {"hr-1/llm/1": USAGE_COST}
    assert paying.accounts.clients == ["shop"]
    assert spent(paying) == USAGE_COST
    reservation, report, opened = paying.accounts.reserved[0], paying.ledger.report, paying.ledger.opened[0]
    assert reservation.nano_usd >= USAGE_COST
    assert (opened.reserved_nano_usd, opened.lease_ids) == (reservation.nano_usd, reservation.lease_ids)
    assert (report.settled_nano_usd, report.lease_ids) == (USAGE_COST, reservation.lease_ids)


@pytest.mark.parametrize(
    ("script", "stream_asked"),
    [
        (answer_json(UNCOUNTED), False),
        (stream([*HELLO, finish_event(), DONE]), True),
        (stream_cut(HELLO), True),
        (hang_before_headers, False),
        (hang_after_headers, False),
        (stream_then_hang([role_event()]), True),
        (reset_before_answer, False),
        (reset_after_headers, False),
        (answer_json(None, raw=b"<html>"), False),
        (answer_status(408), False),
        (answer_status(504), False),
        (answer_status(524), False),
    ],
    ids=[
        *("unary", "stream", "cut", "no head", "no body", "no content", "reset", "reset after its head"),
        *("no JSON", "408", "504 of a gateway", "524 of a gateway"),
    ],
)
async def test_what_nobody_counted_is_settled_in_full(
    paying: ProxyBench, upstream: ScriptedUpstream, script: Script, stream_asked: bool
) -> None:
    upstream.default = script
    paying.use([an_upstream(base_url=upstream.base_url, timeouts=HASTY)], max_attempts=1)

    await paying.ask(stream=stream_asked)

    assert paying.accounts.settled == {"hr-1/llm/1": None}
    bound = paying.accounts.reserved[0].nano_usd
    assert spent(paying) == paying.ledger.report.settled_nano_usd == bound
    assert paying.ledger.report.cost_nano_usd < bound


@pytest.mark.parametrize("status", [400, 401, 429, 500, 502, 503])
async def test_what_was_refused_costs_nothing(
    paying: ProxyBench, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.default = answer_status(status)
    paying.use([an_upstream(base_url=upstream.base_url)], max_attempts=1)

    await paying.ask()

    assert paying.accounts.settled == {"hr-1/llm/1": 0}
    assert paying.ledger.report.settled_nano_usd == 0


async def test_what_was_not_sent_is_released(paying: ProxyBench) -> None:
    paying.use([an_upstream(base_url=f"http://127.0.0.1:{closed_port()}/v1")], max_attempts=1)

    await paying.ask()

    assert paying.accounts.released == ["hr-1/llm/1"]
    assert spent(paying) == 0
    assert paying.ledger.report.settled_nano_usd == 0


async def test_each_attempt_is_reserved_by_itself(
    paying: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = reset_before_answer
    paying.use([an_upstream(base_url=upstream.base_url), an_upstream("spare", second.base_url)])

    await paying.ask()

    assert paying.accounts.settled == {"hr-1/llm/1": None, "hr-1/llm/2": USAGE_COST}


@pytest.mark.parametrize(
    ("fields", "output_tokens"),
    [({}, 256), ({"max_tokens": 10}, 10), ({"max_completion_tokens": 5000}, 5000), ({"n": 3}, 768)],
)
async def test_the_bound_has_the_cap_that_is_sent(
    paying: ProxyBench, upstream: ScriptedUpstream, fields: dict[str, Any], output_tokens: int
) -> None:
    await paying.ask(**fields)

    sent = upstream.requests[0].json()
    cap = sent.get("max_tokens") or sent["max_completion_tokens"]
    assert cap * sent.get("n", 1) == output_tokens
    prompt_nano_usd = paying.accounts.reserved[0].nano_usd - output_tokens * OUTPUT_TOKEN
    assert 0 < prompt_nano_usd < 1000 * 2_500


async def test_a_budget_that_does_not_bear_it(paying: ProxyBench, upstream: ScriptedUpstream) -> None:
    paying.accounts.balance_nano_usd = 1
    paying.accounts.resets_at = 4_000_000_000.5

    answer = await paying.ask()

    assert answer.status == 429
    error = answer.json()["error"]
    assert error["code"] == ErrorCode.BUDGET_EXHAUSTED
    assert error["type"] == "insufficient_quota"
    assert answer.headers[InternalHeader.FAILURE] == Outcome.UNAFFORDABLE
    assert answer.headers[Header.RESETS_AT] == "4000000001"
    assert int(answer.headers["retry-after"]) > 1_000_000
    assert answer.headers["x-should-retry"] == "false"
    assert upstream.attempts == 0
    assert paying.ledger.opened == []
    assert paying.tokens == pytest.approx(100)


@pytest.mark.parametrize("reason", [DeniedReason.KEEPER_AWAY, DeniedReason.PAST_UNKNOWN])
async def test_a_budget_that_nobody_can_vouch_for(paying: ProxyBench, reason: DeniedReason) -> None:
    paying.accounts.balance_nano_usd = 0
    paying.accounts.reason = reason

    answer = await paying.ask()

    assert answer.status == 429
    assert answer.json()["error"]["code"] == ErrorCode.BUDGET_EXHAUSTED
    assert answer.headers["retry-after"] == "5"
    assert Header.RESETS_AT not in answer.headers


async def test_a_second_attempt_that_is_not_affordable(
    paying: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.default = reset_before_answer
    paying.accounts.balance_nano_usd = 5_000_000

    answer = await paying.ask()

    assert answer.headers[InternalHeader.FAILURE] == Outcome.UNAFFORDABLE
    assert upstream.attempts == 1
    assert paying.tokens == pytest.approx(100)


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"a_new_one": 1}, "a_new_one"),
    ],
)
async def test_a_cost_without_a_bound(
    bench: ProxyBench, upstream: ScriptedUpstream, fields: dict[str, Any], parameter: str
) -> None:
    unbudgeted = await bench.ask(**fields)
    bench.accounts.balance_nano_usd = RICH
    budgeted = await bench.ask(request_id="hr-2", **fields)

    assert unbudgeted.status == 200
    assert budgeted.status == 400
    error = budgeted.json()["error"]
    assert (error["code"], error["type"]) == (ErrorCode.UNBOUNDED_COST, "invalid_request_error")
    assert error["param"] == parameter
    assert parameter in error["message"]
    assert budgeted.headers[InternalHeader.FAILURE] == Outcome.REJECTED
    assert upstream.attempts == 1
    assert bench.accounts.reserved == []


async def test_a_client_gone_while_it_is_reserved(paying: ProxyBench, upstream: ScriptedUpstream) -> None:
    paying.accounts.held = asyncio.Event()
    task, _, _ = paying.begin()

    async def reserving() -> bool:
        return bool(paying.accounts.clients)

    await eventually(reserving, 5.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert upstream.attempts == 0
    assert paying.ledger.opened == []


@pytest.mark.parametrize("stream_asked", [False, True])
async def test_a_client_gone_before_the_usage(
    paying: ProxyBench, upstream: ScriptedUpstream, stream_asked: bool
) -> None:
    upstream.default = stream_then_hang(HELLO) if stream_asked else hang_before_headers
    task, _, progressed = paying.begin(stream=stream_asked)
    if stream_asked:
        await progressed.wait()
    else:
        await upstream.wait_until(lambda one: one.attempts == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert paying.accounts.settled == {"hr-1/llm/1": None}
    assert paying.ledger.report.outcome is Outcome.CANCELLED
    assert paying.ledger.report.settled_nano_usd == paying.accounts.reserved[0].nano_usd


async def test_a_reservation_that_ran_out_is_made_anew(
    paying: ProxyBench, upstream: ScriptedUpstream
) -> None:
    paying.accounts.invalid = 1

    answer = await paying.ask()

    assert answer.status == 200
    assert upstream.attempts == 1
    assert paying.accounts.released == ["hr-1/llm/1"]
    assert paying.accounts.settled == {"hr-1/llm/2": USAGE_COST}


async def test_a_token_that_was_taken_while_it_was_reserved(
    paying: ProxyBench, upstream: ScriptedUpstream
) -> None:
    paying.accounts.held = asyncio.Event()
    paying.fill_bucket(1.0)
    task, answer, _ = paying.begin(headers={InternalHeader.FAILED_OVER: "1"})

    async def reserving() -> bool:
        return bool(paying.accounts.clients)

    await eventually(reserving, 5.0)
    assert paying.guard.bucket.try_withdraw(1.0, paying.clock())
    paying.accounts.held.set()
    await task

    assert answer.status == 503
    assert answer.headers[Header.RETRY_BUDGET] == "exhausted"
    assert upstream.attempts == 0
    assert paying.accounts.released == ["hr-1/llm/2"]
