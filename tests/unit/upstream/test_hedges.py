"""Hedges: a second attempt beside a slow one. Off unless asked for; unary, once, paid for; one answer, two bills."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from hybridroute_api.vocabulary import InternalHeader, Outcome
from hybridroute_serve.upstream.failures import AttemptFailure
from hybridroute_serve.upstream.race import AnswerRace
from hybridroute_serve.wire.asgi import send_answer
from hybridroute_serve.wire.errors import upstream_refused
from support.attempts import ProxyBench
from support.eventually import eventually
from support.policies import an_upstream
from support.upstream import (
    DONE,
    Exchange,
    ScriptedUpstream,
    answer_json,
    answer_status,
    chat_answer,
    content_event,
    finish_event,
    hang_before_headers,
    stream,
)

SERVES = answer_json(chat_answer())
SLOW_SECONDS = 0.4
RICH = 10**12


def use_both(
    bench: ProxyBench,
    upstream: ScriptedUpstream,
    second: ScriptedUpstream,
    *,
    hedging: bool = True,
    max_attempts: int = 3,
) -> None:
    """Two upstreams, the first of which is known to take 0.4 s."""
    bench.use(
        [an_upstream(base_url=upstream.base_url), an_upstream("spare", second.base_url)],
        hedging=hedging,
        max_attempts=max_attempts,
    )
    learn_latency(bench)


def learn_latency(bench: ProxyBench) -> None:
    assert bench.policy is not None
    latencies = bench.guard.follow(bench.policy.llm).find("primary").latencies
    for _ in range(50):
        latencies.add(SLOW_SECONDS)


def ended(bench: ProxyBench) -> dict[str, Outcome]:
    return {report.upstream: report.outcome for report in bench.ledger.reports}


async def test_the_second_answers_for_a_slow_first(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = hang_before_headers
    use_both(bench, upstream, second)
    bench.accounts.balance_nano_usd = RICH

    answer = await bench.ask(headers={"idempotency-key": "once"})

    assert answer.status == 200
    assert answer.headers[InternalHeader.UPSTREAM] == "spare"
    assert bench.clock.slept == [SLOW_SECONDS]
    assert ended(bench) == {"primary": Outcome.CANCELLED, "spare": Outcome.OK}
    assert {one.attempt_id for one in bench.ledger.reports} == {"hr-1/llm/1", "hr-1/llm/2"}
    assert bench.tokens == pytest.approx(99.1)
    assert bench.accounts.settled == {"hr-1/llm/1": None, "hr-1/llm/2": 450_000}
    assert all(report.cost_nano_usd > 0 for report in bench.ledger.reports)
    assert bench.guard.facts()["hedges"] == "1"
    assert upstream.requests[0].headers["idempotency-key"] == "once"
    assert "idempotency-key" not in second.requests[0].headers, "it is meant to be worked on twice"
    assert second.requests[0].headers["x-attempt"] == "2"


async def test_the_first_may_still_win(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    both_asked = asyncio.Event()

    async def wait_then_serve(exchange: Exchange) -> None:
        await both_asked.wait()
        await SERVES(exchange)

    async def hang(exchange: Exchange) -> None:
        both_asked.set()
        await exchange.client_gone.wait()

    upstream.default, second.default = wait_then_serve, hang
    use_both(bench, upstream, second)

    answer = await bench.ask()

    assert answer.headers[InternalHeader.UPSTREAM] == "primary"
    assert ended(bench) == {"primary": Outcome.OK, "spare": Outcome.CANCELLED}
    await second.wait_until(lambda one: one.clients_gone == 1)


async def test_both_answering_at_once_is_one_answer(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    both_asked = asyncio.Event()

    async def first(exchange: Exchange) -> None:
        await both_asked.wait()
        await SERVES(exchange)

    async def hedge(exchange: Exchange) -> None:
        both_asked.set()
        await SERVES(exchange)

    upstream.default, second.default = first, hedge
    use_both(bench, upstream, second)

    answers = [await bench.ask(request_id=f"hr-{number}") for number in range(10)]

    assert {answer.status for answer in answers} == {200}
    assert all(answer.json() == chat_answer() for answer in answers)


async def test_the_only_upstream_is_asked_twice(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.scripts.append(hang_before_headers)
    bench.use([an_upstream(base_url=upstream.base_url)], hedging=True)
    learn_latency(bench)

    answer = await bench.ask()

    assert answer.status == 200
    assert upstream.attempts == 2
    assert {report.outcome for report in bench.ledger.reports} == {Outcome.OK, Outcome.CANCELLED}


async def test_what_is_slow_is_learned_from_answers(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    bench.use([an_upstream(base_url=upstream.base_url), an_upstream("spare", second.base_url)], hedging=True)
    for number in range(50):
        await bench.ask(request_id=f"hr-{number}")
    assert second.attempts == 0

    upstream.default = hang_before_headers
    answer = await bench.ask(request_id="hr-slow")

    assert answer.headers[InternalHeader.UPSTREAM] == "spare"


async def test_a_fast_answer_has_no_hedge(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    use_both(bench, upstream, second)
    bench.clock.held = asyncio.Event()

    answer = await bench.ask()

    assert answer.headers[InternalHeader.UPSTREAM] == "primary"
    assert second.attempts == 0
    assert bench.tokens == pytest.approx(100.0)


@pytest.mark.parametrize(
    "why_not", ["off", "stream", "no token", "one attempt", "unknown latency", "no healthy upstream"]
)
async def test_when_there_is_no_hedge(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream, why_not: str
) -> None:
    use_both(bench, upstream, second, hedging=why_not != "off")
    upstream.default = SERVES
    if why_not == "stream":
        upstream.default = stream([content_event("a"), finish_event(), DONE])
    if why_not == "no token":
        bench.fill_bucket(0.5)
    if why_not in ("one attempt", "unknown latency"):
        bench.use(
            [an_upstream(base_url=upstream.base_url + "/"), an_upstream("spare", second.base_url)],
            hedging=True,
            max_attempts=1 if why_not == "one attempt" else 3,
        )
    if why_not == "one attempt":
        learn_latency(bench)
    if why_not == "no healthy upstream":
        assert bench.policy is not None
        upstreams = bench.guard.follow(bench.policy.llm)
        for name in ("primary", "spare"):
            upstreams.find(name).breaker.open_as_told(bench.clock())
        bench.clock.jump(1.5)

    answer = await bench.ask(stream=why_not == "stream")

    assert answer.status == 200
    assert bench.clock.slept == []
    assert second.attempts == 0


async def test_a_hedge_that_is_not_affordable_is_left_out(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    released = asyncio.Event()

    async def wait_then_serve(exchange: Exchange) -> None:
        await released.wait()
        await SERVES(exchange)

    upstream.default = wait_then_serve
    use_both(bench, upstream, second)
    bench.accounts.balance_nano_usd = 5_000_000
    task, answer, _ = bench.begin()

    async def denied() -> bool:
        return len(bench.accounts.clients) == 2

    await eventually(denied, 5.0)
    released.set()
    await task

    assert answer.status == 200
    assert second.attempts == 0
    assert bench.tokens == pytest.approx(100.0)


async def test_when_both_fail_the_request_goes_on_without_another_hedge(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    both_asked = asyncio.Event()

    async def first(exchange: Exchange) -> None:
        await both_asked.wait()
        await answer_status(500)(exchange)

    async def hedge(exchange: Exchange) -> None:
        both_asked.set()
        await answer_status(500)(exchange)

    upstream.scripts.append(first)
    second.scripts.append(hedge)
    use_both(bench, upstream, second, max_attempts=9)

    answer = await bench.ask()

    assert answer.status == 200
    assert upstream.attempts + second.attempts == 3
    assert bench.guard.facts()["hedges"] == "1"


async def test_what_one_finds_wrong_with_the_request_ends_both(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default, second.default = hang_before_headers, answer_status(400)
    use_both(bench, upstream, second)

    answer = await bench.ask()

    assert answer.status == 400
    assert ended(bench) == {"primary": Outcome.CANCELLED, "spare": Outcome.CLIENT_ERROR}


async def test_an_answer_that_has_begun_is_not_stopped_by_what_the_other_finds_wrong() -> None:
    refused, sent, reading = asyncio.Event(), list[str](), asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])
        await reading.wait()

    race = AnswerRace(send)
    to_client = race.contender()

    async def answer() -> None:
        await send_answer(to_client, 200, b"{}")

    async def fail() -> AttemptFailure:
        await refused.wait()
        return AttemptFailure(Outcome.CLIENT_ERROR, upstream_refused(400, "spare"), "status 400")

    attempts = [asyncio.create_task(answer()), asyncio.create_task(fail())]
    finish = asyncio.create_task(race.finish(attempts))
    await asyncio.sleep(0)
    refused.set()
    await attempts[1]
    reading.set()

    assert await finish is None
    assert sent == ["http.response.start", "http.response.body"]


async def test_a_client_gone_ends_both(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = second.default = hang_before_headers
    use_both(bench, upstream, second)
    bench.accounts.balance_nano_usd = RICH
    task, answer, _ = bench.begin()
    await second.wait_until(lambda one: one.attempts == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert answer.status == 0
    assert ended(bench) == {"primary": Outcome.CANCELLED, "spare": Outcome.CANCELLED}
    assert bench.accounts.settled == {"hr-1/llm/1": None, "hr-1/llm/2": None}
