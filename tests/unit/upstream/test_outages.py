"""Outages of upstreams across requests: how many attempts they cost, who notices, and how they end."""

import asyncio
from collections import Counter

import pytest

from hybridroute_api.serving import LlmPolicy, UpstreamTimeouts
from hybridroute_api.vocabulary import InternalHeader, Outcome
from hybridroute_serve.upstream.guard import GuardedUpstream, UpstreamGuard
from support.attempts import ProxyBench
from support.clocks import TurnedClock
from support.eventually import eventually
from support.policies import a_retry_policy, an_upstream
from support.upstream import (
    DONE,
    Exchange,
    ScriptedUpstream,
    answer_json,
    answer_status,
    chat_answer,
    content_event,
    event,
    finish_event,
    hang_before_headers,
    stream,
)

SERVES = answer_json(chat_answer())
BROKEN = answer_status(500)


def use_both(bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream) -> None:
    bench.use([an_upstream(base_url=upstream.base_url), an_upstream("spare", second.base_url)])


def state(bench: ProxyBench, name: str = "primary") -> str:
    return bench.guard.facts()[f"upstream.{name}"]


@pytest.mark.parametrize("tokens", [1.0, 1.5, 3.0, 100.0])
async def test_primary_down_and_secondary_up_is_no_error_to_any_client(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream, tokens: float
) -> None:
    upstream.default = BROKEN
    use_both(bench, upstream, second)
    bench.fill_bucket(tokens)

    answers = [await bench.ask(request_id=f"hr-{number}") for number in range(30)]

    assert {answer.status for answer in answers} == {200}
    assert {answer.headers[InternalHeader.UPSTREAM] for answer in answers} == {"spare"}
    assert state(bench) == "open"
    assert state(bench, "spare") == "closed"
    assert upstream.attempts <= min(5, max(1, tokens))
    assert bench.guard.facts()["breaker_cause.primary"] in (
        "failures in a row",
        "a failure when retry tokens were low",
    )
    assert bench.guard.facts()["retry_extra_attempts"] == str(upstream.attempts)
    assert bench.guard.facts()["breaker_opened.primary"] == "1"


async def test_leaving_an_upstream_and_coming_back_are_a_line_each(
    bench: ProxyBench,
    upstream: ScriptedUpstream,
    second: ScriptedUpstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="hybridroute_serve.upstream.guard")
    upstream.default = BROKEN
    use_both(bench, upstream, second)
    for number in range(8):
        await bench.ask(request_id=f"hr-{number}")
    bench.clock.jump(1.0)
    await bench.ask(request_id="hr-failed-probe")
    upstream.default = SERVES
    bench.clock.jump(2.0)
    await bench.ask(request_id="hr-probe")

    assert [record.getMessage() for record in caplog.records] == [
        "left an upstream upstream=primary cause='failures in a row'",
        "an upstream is back upstream=primary",
    ]


async def test_with_an_open_breaker_first_attempts_go_elsewhere_without_a_token(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = BROKEN
    use_both(bench, upstream, second)
    for number in range(5):
        await bench.ask(request_id=f"hr-{number}")
    bench.fill_bucket(0.0)

    answer = await bench.ask(request_id="hr-after")

    assert answer.status == 200
    assert upstream.attempts == 5
    assert bench.ledger.reports[-1].attempt_id == "hr-after/llm/1"


async def test_streams_open_a_breaker_too(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = stream([content_event("Hello"), event({"error": {"message": "x"}})])
    use_both(bench, upstream, second)

    for number in range(5):
        await bench.ask(request_id=f"hr-{number}", stream=True)

    assert state(bench) == "open"


@pytest.mark.parametrize("stream_asked", [False, True])
async def test_clients_that_do_not_read_are_not_the_upstreams_fault(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream, stream_asked: bool
) -> None:
    hasty = UpstreamTimeouts(connect_seconds=2.0, first_byte_seconds=2.0, total_seconds=2.0)
    if stream_asked:
        upstream.default = stream([content_event("a"), finish_event(), DONE])
    bench.use(
        [an_upstream(base_url=upstream.base_url, timeouts=hasty), an_upstream("spare", second.base_url)]
    )
    bench.client.reading = asyncio.Event()
    begun = [bench.begin(request_id=f"hr-{number}", stream=stream_asked) for number in range(6)]

    async def cut() -> bool:
        return len(bench.ledger.reports) == 6

    await eventually(cut, 5.0)
    bench.client.reading.set()
    await asyncio.gather(*(task for task, _, _ in begun), return_exceptions=True)

    assert {report.outcome for report in bench.ledger.reports} == {Outcome.CUT}
    assert state(bench) == "closed"


async def test_without_tokens_it_takes_longer_and_yet_is_found_out_that_an_upstream_is_back(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = BROKEN
    use_both(bench, upstream, second)
    for number in range(5):
        await bench.ask(request_id=f"hr-{number}")
    bench.guard.bucket.change_ratio(0.0)
    bench.fill_bucket(0.0)
    upstream.default = SERVES

    served_by = []
    for wait_seconds in (2.0, 26.0, 4.0, 0.0):
        bench.clock.jump(wait_seconds)
        answer = await bench.ask(request_id=f"hr-after-{len(served_by)}")
        served_by.append(answer.headers[InternalHeader.UPSTREAM])

    assert served_by == ["spare", "spare", "primary", "primary"]
    assert state(bench) == "closed"


@pytest.mark.parametrize(
    ("known", "alternative", "goes_to"),
    [
        pytest.param([0.1] * 20, True, "spare", id="hangs"),
        pytest.param([4.0] * 20, True, "primary", id="usually takes half as long"),
        pytest.param([0.1] * 19, True, "primary", id="nobody knows how long it takes"),
        pytest.param([0.1] * 20, False, "primary", id="nowhere else to go"),
    ],
)
async def test_an_upstream_that_hangs_is_left_before_what_it_was_sent_has_failed(
    bench: ProxyBench,
    upstream: ScriptedUpstream,
    second: ScriptedUpstream,
    *,
    known: list[float],
    alternative: bool,
    goes_to: str,
) -> None:
    """After 5.5 s, where a first byte may take 5."""
    timeouts = UpstreamTimeouts(connect_seconds=2.0, first_byte_seconds=5.0, total_seconds=60.0)
    primary = an_upstream(base_url=upstream.base_url, timeouts=timeouts)
    bench.use([primary, an_upstream("spare", second.base_url)] if alternative else [primary])
    assert bench.policy is not None
    latencies = bench.guard.follow(bench.policy.llm).find("primary").latencies
    for seconds in known:
        latencies.add(seconds)
    upstream.scripts.extend([hang_before_headers] * 6)
    second.default = upstream.default = SERVES

    def begin(number: int) -> asyncio.Task[None]:
        return bench.begin(request_id=f"hr-{number}")[0]

    async def all_sent() -> bool:
        return upstream.attempts == len(tasks)

    tasks = [begin(number) for number in range(5)]
    try:
        await eventually(all_sent, 5.0)
        bench.clock.jump(4.5)
        tasks.append(begin(5))
        await eventually(all_sent, 5.0)
        assert state(bench) == "closed", "it may still take that long"
        bench.clock.jump(1.0)

        answer = await bench.ask(request_id="hr-after")

        assert answer.status == 200
        assert answer.headers[InternalHeader.UPSTREAM] == goes_to
        assert state(bench) == ("open" if goes_to == "spare" else "closed")
        assert bench.guard.facts().get("breaker_cause.primary") == (
            "no answers" if goes_to == "spare" else None
        )
        assert bench.tokens == pytest.approx(100, abs=0.2)
        assert bench.guard.facts()["retry_extra_attempts"] == "0"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_what_is_known_of_one_model_says_nothing_of_how_long_another_takes() -> None:
    guard = UpstreamGuard(monotonic_clock=TurnedClock(), random=lambda: 0.5)
    spare = an_upstream("spare", "http://spare/v1")

    def follow(**changes: str) -> GuardedUpstream:
        upstreams = (an_upstream(**changes), spare)
        return guard.follow(LlmPolicy(upstreams=upstreams, retries=a_retry_policy())).find("primary")

    before = follow(model="quick")
    for _ in range(20):
        before.latencies.add(0.1)
    for _ in range(5):
        before.breaker.admit(0.0, first=True)
    assert before.is_silent(10.0)

    assert follow(model="quick", ca_file="/ca.pem").is_silent(10.0)
    after = follow(model="thoughtful")
    assert after.breaker is before.breaker
    assert not after.is_silent(10.0)


async def test_half_of_the_only_upstreams_answers_failing(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.scripts.extend([BROKEN, SERVES] * 30)

    answers = [await bench.ask(request_id=f"hr-{number}") for number in range(30)]

    assert {answer.status for answer in answers} == {200}
    assert state(bench) == "closed", "refusing all would be worse"
    assert bench.tokens == pytest.approx(100 - 30 + 3)


async def test_half_of_the_primarys_answers_failing(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.scripts.extend([SERVES, BROKEN] * 30)
    use_both(bench, upstream, second)

    answers = [await bench.ask(request_id=f"hr-{number}") for number in range(30)]

    assert {answer.status for answer in answers} == {200}
    assert state(bench) == "open"
    assert upstream.attempts == 10


@pytest.mark.parametrize("upstreams", [1, 2])
async def test_attempts_in_a_total_outage_are_bounded_by_the_tokens(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream, upstreams: int
) -> None:
    upstream.default = second.default = BROKEN
    if upstreams == 2:
        use_both(bench, upstream, second)
    bench.fill_bucket(10.0, floor_tokens_per_second=1.0)
    began = bench.clock()

    statuses: Counter[int] = Counter()
    for number in range(300):
        statuses[(await bench.ask(request_id=f"hr-{number}")).status] += 1
        bench.clock.jump(0.01)

    elapsed_seconds = bench.clock() - began
    assert statuses == {503: 300}
    assert upstream.attempts + second.attempts <= 300 + 10 + elapsed_seconds
    assert int(bench.guard.facts()["retry_extra_attempts"]) <= 10 + elapsed_seconds
    assert "open" in {state(bench), state(bench, "spare") if upstreams == 2 else "open"}


async def test_many_at_once_spend_no_token_twice(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = BROKEN
    bench.fill_bucket(5.0)

    answers = await asyncio.gather(*(bench.ask(request_id=f"hr-{number}") for number in range(50)))

    assert {answer.status for answer in answers} == {503}
    assert int(bench.guard.facts()["retry_extra_attempts"]) <= 5
    assert upstream.attempts <= 55


async def open_primary(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = BROKEN
    for number in range(5):
        await bench.ask(request_id=f"hr-{number}")
    assert state(bench) == "open"
    upstream.requests.clear()
    bench.clock.jump(1.5)
    assert state(bench) == "half_open"


async def test_an_upstream_that_is_back_is_found_by_one_first_attempt(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    use_both(bench, upstream, second)
    await open_primary(bench, upstream)
    reached, released = asyncio.Event(), asyncio.Event()

    async def held(exchange: Exchange) -> None:
        reached.set()
        await released.wait()
        await SERVES(exchange)

    upstream.default = held
    probe = asyncio.create_task(bench.ask(request_id="hr-probe"))
    await reached.wait()
    beside = [await bench.ask(request_id=f"hr-beside-{number}") for number in range(3)]
    released.set()
    probed = await probe
    after = await bench.ask(request_id="hr-after")

    assert [answer.headers[InternalHeader.UPSTREAM] for answer in beside] == ["spare"] * 3
    assert probed.headers[InternalHeader.UPSTREAM] == "primary"
    assert after.headers[InternalHeader.UPSTREAM] == "primary"
    assert state(bench) == "closed"


async def test_a_failed_probe_is_no_error_to_its_client(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    use_both(bench, upstream, second)
    await open_primary(bench, upstream)

    answer = await bench.ask(request_id="hr-probe")

    assert answer.headers[InternalHeader.UPSTREAM] == "spare"
    assert upstream.attempts == 1
    assert state(bench) == "open"


async def test_a_stream_has_passed_as_a_probe_with_its_first_content(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    use_both(bench, upstream, second)
    await open_primary(bench, upstream)
    released = asyncio.Event()

    async def hold_second(number: int) -> None:
        if number == 1:
            await released.wait()

    upstream.default = stream([content_event("a"), finish_event(), DONE], before_each=hold_second)
    task, _, progressed = bench.begin(request_id="hr-probe", stream=True)
    await progressed.wait()

    assert state(bench) == "closed"
    released.set()
    await task


async def test_a_client_that_leaves_a_probe_decides_nothing(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    use_both(bench, upstream, second)
    await open_primary(bench, upstream)

    async def hang(exchange: Exchange) -> None:
        await exchange.client_gone.wait()

    upstream.default = hang
    task, _, _ = bench.begin(request_id="hr-probe")
    await upstream.wait_until(lambda one: one.attempts == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert state(bench) == "half_open"
    upstream.default = SERVES
    assert (await bench.ask(request_id="hr-again")).headers[InternalHeader.UPSTREAM] == "primary"


async def test_what_is_known_of_an_upstream_survives_an_edit_of_the_policy(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    use_both(bench, upstream, second)
    upstream.default = BROKEN
    for number in range(5):
        await bench.ask(request_id=f"hr-{number}")

    bench.use([an_upstream("spare", second.base_url), an_upstream(base_url=upstream.base_url, model="new")])
    await bench.ask(request_id="hr-edited")
    assert state(bench) == "open"

    bench.use([an_upstream(base_url=second.base_url)])
    await bench.ask(request_id="hr-moved")
    assert state(bench) == "closed", "another place under the same name"
    assert "upstream.spare" not in bench.guard.facts()
