"""The attempts of one request: what follows a failure, when, where, and who pays; what the client and providers see."""

import asyncio

import pytest

from hybridroute_api.serving import LlmPolicy, UpstreamTimeouts
from hybridroute_api.vocabulary import ErrorCode, Gate, Header, InternalHeader, Outcome
from support.attempts import ProxyBench
from support.eventually import eventually
from support.policies import a_retry_policy, an_upstream
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
    reset_before_answer,
    role_event,
    stream,
    stream_cut,
    stream_then_hang,
)

SERVES = answer_json(chat_answer())


def use_both(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream, *, max_attempts: int = 3
) -> None:
    bench.use(
        [an_upstream(base_url=upstream.base_url), an_upstream("spare", second.base_url)],
        max_attempts=max_attempts,
    )


def outcomes(bench: ProxyBench) -> list[Outcome]:
    return [report.outcome for report in bench.ledger.reports]


@pytest.mark.parametrize(
    "fault",
    [reset_before_answer, answer_status(500), answer_status(502), answer_json(None, raw=b"<html>")],
    ids=["reset", "500", "502", "no JSON"],
)
@pytest.mark.parametrize("failures", [1, 2])
async def test_a_failure_is_tried_again_at_the_only_upstream(
    bench: ProxyBench, upstream: ScriptedUpstream, fault: Script, failures: int
) -> None:
    upstream.scripts.extend([fault] * failures)

    answer = await bench.ask(headers={"idempotency-key": "once"})

    assert answer.status == 200
    assert outcomes(bench) == [Outcome.UPSTREAM_ERROR] * failures + [Outcome.OK]
    assert bench.clock.slept == [0.025, 0.05][:failures], "full jitter, drawn in the middle"
    assert bench.tokens == pytest.approx(100 - failures + (0.1 if failures else 0), abs=1e-6)
    assert [one.headers["x-attempt"] for one in upstream.requests] == ["1", "2", "3"][: failures + 1]
    assert {one.headers["idempotency-key"] for one in upstream.requests} == {"once"}


async def test_an_audit_is_attempted_once_and_takes_no_token(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    use_both(bench, upstream, second)
    upstream.scripts.append(answer_status(500))
    tokens = bench.tokens

    answer = await bench.ask(headers={InternalHeader.GATE: Gate.AUDIT.value})

    assert answer.status == 503
    assert outcomes(bench) == [Outcome.UPSTREAM_ERROR]
    assert [report.gate for report in bench.ledger.reports] == ["audit"]
    assert bench.tokens == tokens
    assert second.requests == []


async def test_a_stream_that_broke_before_its_content_is_tried_again(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.scripts.append(stream_cut([role_event()]))
    upstream.default = stream([role_event(), content_event("Hello"), finish_event(), DONE])

    answer = await bench.ask(stream=True)

    assert answer.body.count(b"Hello") == 1
    assert outcomes(bench) == [Outcome.UPSTREAM_ERROR, Outcome.OK]


async def test_a_stream_that_broke_after_its_content_is_not(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = stream_cut([role_event(), content_event("Hello")])
    use_both(bench, upstream, second)

    await bench.ask(stream=True)

    assert outcomes(bench) == [Outcome.CUT]
    assert second.attempts == 0
    assert bench.tokens == pytest.approx(100)


async def test_an_upstream_that_refuses_connections(bench: ProxyBench) -> None:
    bench.use([an_upstream(base_url=f"http://127.0.0.1:{closed_port()}/v1")])

    answer = await bench.ask()

    assert answer.status == 503
    assert answer.headers[InternalHeader.FAILURE] == Outcome.UPSTREAM_ERROR
    assert outcomes(bench) == [Outcome.UPSTREAM_ERROR] * 3
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-should-retry"] == "false"
    assert Header.RETRY_BUDGET not in answer.headers, "it was not for want of a token"


async def test_without_a_token_nothing_is_tried_again(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = answer_status(500)
    bench.use([an_upstream(base_url=upstream.base_url)])
    bench.fill_bucket(0.9)

    answers = [await bench.ask(request_id=f"hr-{number}") for number in range(3)]

    assert upstream.attempts == 3
    for answer in answers:
        assert answer.status == 503
        assert answer.json()["error"]["code"] == ErrorCode.PATH_UNAVAILABLE
        assert answer.headers[Header.RETRY_BUDGET] == "exhausted"
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["retry-after"] == "1"
        assert answer.headers[InternalHeader.FAILURE] == Outcome.UPSTREAM_ERROR
    facts = bench.guard.facts()
    assert facts["retry_refusals"] == "3"
    assert facts["retry_extra_attempts"] == "0"
    assert facts["retry_tokens"] == "0.900"


def use_both_and_retry_timeouts(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    timeouts = UpstreamTimeouts(connect_seconds=1.0, first_byte_seconds=0.4, total_seconds=1.2)
    bench.use(
        [
            an_upstream(base_url=upstream.base_url, timeouts=timeouts),
            an_upstream("spare", second.base_url),
        ],
        retry_timeouts=True,
    )


@pytest.mark.parametrize(
    ("fault", "stream_asked"),
    [
        pytest.param(hang_before_headers, False, id="before headers, unary"),
        pytest.param(hang_after_headers, False, id="after headers, unary"),
        pytest.param(hang_before_headers, True, id="before headers, stream"),
        pytest.param(stream_then_hang([role_event()]), True, id="after the role, stream"),
        pytest.param(answer_status(408), False, id="says so itself"),
    ],
)
async def test_a_timeout_after_sending_is_tried_elsewhere_where_that_was_asked_for(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream, fault: Script, stream_asked: bool
) -> None:
    upstream.default = fault
    second.default = stream([content_event("Hello"), finish_event(), DONE]) if stream_asked else SERVES
    use_both_and_retry_timeouts(bench, upstream, second)

    answer = await bench.ask(stream=stream_asked)

    assert answer.status == 200
    assert answer.headers[InternalHeader.UPSTREAM] == "spare"
    assert outcomes(bench) == [Outcome.TIMEOUT, Outcome.OK]
    assert all(report.cost_nano_usd > 0 for report in bench.ledger.reports), "both may bill"
    assert bench.tokens == pytest.approx(100 - 2 + 0.1)


async def test_a_timeout_is_not_tried_again_for_less_than_two_tokens(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = hang_before_headers
    use_both_and_retry_timeouts(bench, upstream, second)
    bench.fill_bucket(1.9)

    answer = await bench.ask()

    assert answer.status == 504
    assert answer.headers[Header.RETRY_BUDGET] == "exhausted"
    assert second.attempts == 0


async def test_retried_timeouts_make_room_for_all_attempts(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    """One upstream's whole timeout would leave no time for another."""
    use_both_and_retry_timeouts(bench, upstream, upstream)
    assert bench.policy is not None
    patient = bench.policy.llm
    impatient = patient.model_copy(
        update={"retries": patient.retries.model_copy(update={"retry_timeouts": False})}
    )
    longest_seconds = max(one.timeouts.total_seconds for one in patient.upstreams)

    assert impatient.longest_seconds == longest_seconds
    assert patient.longest_seconds == 3 * longest_seconds
    assert bench.guard.follow(patient).longest_seconds == 3 * longest_seconds


@pytest.mark.parametrize(
    ("total_seconds", "longest_seconds"), [(300.0, 3000.0), (360.0, 3600.0), (3600.0, 3600.0)]
)
def test_no_request_outlives_what_stopping_replicas_leave_it(
    total_seconds: float, longest_seconds: float
) -> None:
    timeouts = UpstreamTimeouts(connect_seconds=2.0, first_byte_seconds=20.0, total_seconds=total_seconds)
    policy = LlmPolicy(
        upstreams=(an_upstream(timeouts=timeouts),),
        retries=a_retry_policy(max_attempts=10, retry_timeouts=True),
    )
    assert policy.longest_seconds == longest_seconds


@pytest.mark.parametrize("status", [401, 402, 403, 404, 302])
async def test_what_is_wrong_with_our_own_account_is_asked_of_each_upstream_once(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream, status: int
) -> None:
    upstream.default = second.default = answer_status(status)
    use_both(bench, upstream, second, max_attempts=9)

    answer = await bench.ask()

    assert answer.status == 503
    assert (upstream.attempts, second.attempts) == (1, 1)
    assert bench.clock.slept == []


async def test_a_request_that_is_wrong_is_neither_tried_again_nor_a_success(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.default = answer_status(400)
    bench.fill_bucket(1.0)

    answer = await bench.ask()

    assert answer.status == 400
    assert "x-should-retry" not in answer.headers
    assert upstream.attempts == 1
    assert bench.tokens == pytest.approx(1.0)
    assert bench.guard.facts()["upstream.primary"] == "closed"


async def test_only_what_got_through_fills_the_bucket(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    bench.fill_bucket(1.0)
    upstream.default = SERVES

    for number in range(5):
        await bench.ask(request_id=f"hr-{number}")

    assert bench.tokens == pytest.approx(1.5)
    assert bench.guard.facts()["retry_deposits"] == "5"


async def test_attempts_end_at_the_most(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = second.default = answer_status(500)
    use_both(bench, upstream, second, max_attempts=4)

    await bench.ask()

    assert [report.upstream for report in bench.ledger.reports][:2] == ["primary", "spare"]
    assert upstream.attempts + second.attempts == 4


async def test_the_providers_own_advice_to_retry_is_not_passed_on(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.default = answer_status(500, {"x-should-retry": "true"})

    assert (await bench.ask()).headers["x-should-retry"] == "false"


# Throttling.


async def test_the_only_upstream_is_waited_for_as_it_asks(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.scripts.append(answer_status(429, {"Retry-After": "7"}))

    answer = await bench.ask()

    assert answer.status == 200
    assert bench.clock.slept == [pytest.approx(7.35)]
    assert bench.tokens == pytest.approx(99.1)


async def test_milliseconds_are_read_as_well(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.scripts.append(answer_status(429, {"Retry-After": "7", "Retry-After-Ms": "200"}))

    await bench.ask()

    assert bench.clock.slept == [pytest.approx(0.21)]


async def test_a_wait_beyond_the_deadline_is_left_to_the_client(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.default = answer_status(429, {"Retry-After": "60"})

    answer = await bench.ask()

    assert answer.status == 429
    assert answer.headers["retry-after"] == "60"
    assert answer.headers[InternalHeader.FAILURE] == Outcome.THROTTLED
    assert upstream.attempts == 1
    assert bench.clock.slept == []
    assert bench.tokens == pytest.approx(100)


async def test_another_upstream_is_asked_at_once(
    bench: ProxyBench, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.default = answer_status(429, {"Retry-After": "1"})
    use_both(bench, upstream, second)

    answer = await bench.ask()

    assert answer.headers[InternalHeader.UPSTREAM] == "spare"
    assert bench.clock.slept == []
    assert outcomes(bench) == [Outcome.THROTTLED, Outcome.OK]


# Deadlines.


async def test_the_callers_deadline_ends_an_attempt_and_is_no_fault_of_the_upstream(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.default = hang_before_headers
    for number in range(25):
        answer = await bench.ask(request_id=f"hr-{number}", headers={InternalHeader.DEADLINE_SECONDS: "0.05"})
        assert answer.status == 504
        assert answer.headers[InternalHeader.FAILURE] == Outcome.TIMEOUT
        assert answer.headers["x-should-retry"] == "false"

    assert len(bench.ledger.reports) > 20, "enough to open it"
    assert bench.guard.facts()["upstream.primary"] == "closed"


async def test_timeouts_of_the_upstream_are_its_fault(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = hang_before_headers
    hasty = UpstreamTimeouts(connect_seconds=5.0, first_byte_seconds=0.02, total_seconds=10.0)
    bench.use([an_upstream(base_url=upstream.base_url, timeouts=hasty)])

    for number in range(25):
        await bench.ask(request_id=f"hr-{number}", stream=True)

    assert upstream.attempts == 20
    assert bench.guard.facts()["upstream.primary"] == "open"


@pytest.mark.parametrize("seconds", ["0", "-1"])
async def test_after_its_deadline_a_request_is_not_sent(
    bench: ProxyBench, upstream: ScriptedUpstream, seconds: str
) -> None:
    answer = await bench.ask(headers={InternalHeader.DEADLINE_SECONDS: seconds})

    assert answer.status == 504
    assert answer.json()["error"]["code"] == ErrorCode.TIMEOUT
    assert upstream.attempts == 0


@pytest.mark.parametrize("seconds", ["soon", "nan", "inf", ""])
async def test_what_is_no_deadline(bench: ProxyBench, seconds: str) -> None:
    assert (await bench.ask(headers={InternalHeader.DEADLINE_SECONDS: seconds})).status == 200


async def test_waits_count_towards_the_deadline(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = answer_status(429, {"Retry-After": "2"})
    bench.use([an_upstream(base_url=upstream.base_url)], max_attempts=9)

    answer = await bench.ask(headers={InternalHeader.DEADLINE_SECONDS: "5"})

    assert answer.status == 429
    assert upstream.attempts == 3
    assert bench.clock.slept == [pytest.approx(2.1)] * 2


async def test_a_caller_with_more_patience_than_the_route_waits_no_longer(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    upstream.default = answer_status(429, {"Retry-After": "12"})

    answer = await bench.ask(headers={InternalHeader.DEADLINE_SECONDS: "100"})

    assert answer.status == 429
    assert upstream.attempts == 1


async def test_a_client_gone_during_a_wait(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = answer_status(500)
    bench.clock.held = asyncio.Event()
    task, answer, _ = bench.begin()

    async def waits() -> bool:
        return bool(bench.clock.slept)

    await eventually(waits, 5.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert answer.status == 0
    assert upstream.attempts == 1
    assert bench.tokens == pytest.approx(100), "a token is taken when the attempt is sent"


# A request that another path has failed.


async def test_a_request_that_failed_elsewhere_pays_for_its_first_attempt_here(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    answer = await bench.ask(headers={InternalHeader.FAILED_OVER: "1"})

    assert answer.status == 200
    assert bench.tokens == pytest.approx(99.1)
    assert upstream.requests[0].headers["x-attempt"] == "2"
    assert bench.ledger.report.attempt_id == "hr-1/llm/2"


async def test_a_request_that_failed_elsewhere_is_refused_without_a_token(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    bench.fill_bucket(0.5)

    answer = await bench.ask(headers={InternalHeader.FAILED_OVER: "1"})

    assert answer.status == 503
    assert answer.headers[Header.RETRY_BUDGET] == "exhausted"
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["retry-after"] == "1"
    assert answer.headers[InternalHeader.FAILURE] == Outcome.UPSTREAM_ERROR
    assert upstream.attempts == 0
    assert bench.guard.facts()["retry_refusals"] == "1"


async def test_its_attempts_elsewhere_count(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    upstream.default = answer_status(500)

    await bench.ask(headers={InternalHeader.FAILED_OVER: "1"})

    assert upstream.attempts == 2


async def test_a_first_attempt_needs_no_token(bench: ProxyBench) -> None:
    bench.fill_bucket(0.0)

    assert (await bench.ask(headers={InternalHeader.FAILED_OVER: "0"})).status == 200
