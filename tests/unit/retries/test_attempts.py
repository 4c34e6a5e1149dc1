"""The class table and the plan, row by row, then its promises for any history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.retries.attempts import (
    AttemptKind,
    AttemptLedger,
    EndedAttempt,
    NextAttempt,
    Stop,
    StopReason,
    UpstreamView,
    plan_next_attempt,
    rule_for,
)
from hybridroute_serve.retries.backoff import Backoff
from hybridroute_serve.retries.breaker import Admission, Verdict

MIDDLING = Backoff(random=lambda: 0.5)
FRESH = AttemptLedger(max_attempts=3, deadline=30.0)
A = UpstreamView("a", Admission.PASS)
B = UpstreamView("b", Admission.PASS)
B_DOWN = UpstreamView("b", Admission.REFUSE)


def after(
    outcome: Outcome,
    *,
    sent: bool = True,
    content: bool = False,
    retry_after_seconds: float | None = None,
    ledger: AttemptLedger = FRESH,
) -> AttemptLedger:
    return ledger.with_attempt(
        EndedAttempt("a", AttemptKind.FIRST, outcome, sent, content, retry_after_seconds)
    )


def plan(
    ledger: AttemptLedger,
    *upstreams: UpstreamView,
    tokens: float = 10.0,
    now: float = 0.0,
    retry_timeouts: bool = False,
) -> NextAttempt | Stop:
    return plan_next_attempt(
        ledger,
        upstreams,
        tokens=tokens,
        backoff=MIDDLING,
        now=now,
        retry_timeouts=retry_timeouts,
    )


def test_the_first_attempt_needs_no_token() -> None:
    assert plan(FRESH, A, B, tokens=0.0) == NextAttempt("a", AttemptKind.FIRST, 0.0, 0.0)


def test_a_first_attempt_goes_past_an_open_breaker_without_a_token() -> None:
    down = UpstreamView("a", Admission.REFUSE)
    assert plan(FRESH, down, B, tokens=0.0) == NextAttempt("b", AttemptKind.FIRST, 0.0, 0.0)
    assert plan(FRESH, down, B_DOWN) == Stop(StopReason.NO_UPSTREAM)


def test_a_probe_is_sent_where_its_failure_could_be_paid_for_or_nothing_else_is_up() -> None:
    back = UpstreamView("a", Admission.PROBE)
    assert plan(FRESH, back, B, tokens=1.0) == NextAttempt("a", AttemptKind.FIRST, 0.0, 0.0)
    assert plan(FRESH, back, B, tokens=0.9) == NextAttempt("b", AttemptKind.FIRST, 0.0, 0.0)
    assert plan(FRESH, back, B_DOWN, tokens=0.0) == NextAttempt("a", AttemptKind.FIRST, 0.0, 0.0)


def test_a_failure_falls_back_to_the_next_upstream_at_once() -> None:
    expected = NextAttempt("b", AttemptKind.EXTRA, 0.0, 1.0)
    assert plan(after(Outcome.UPSTREAM_ERROR), A, B) == expected
    assert plan(after(Outcome.THROTTLED, retry_after_seconds=9.0), A, B) == expected


def test_alone_it_is_retried_after_a_jittered_wait() -> None:
    next_attempt = plan(after(Outcome.UPSTREAM_ERROR), A, B_DOWN)
    assert next_attempt == NextAttempt("a", AttemptKind.EXTRA, 0.025, 1.0)


def test_extra_attempts_do_not_probe() -> None:
    back = UpstreamView("b", Admission.PROBE)
    assert plan(after(Outcome.UPSTREAM_ERROR), UpstreamView("a", Admission.REFUSE), back) == Stop(
        StopReason.NO_UPSTREAM
    )


def test_throttling_waits_as_long_as_was_asked_within_the_deadline() -> None:
    asked = after(Outcome.THROTTLED, retry_after_seconds=20.0)
    next_attempt = plan(asked, A)
    assert isinstance(next_attempt, NextAttempt)
    assert 20.0 <= next_attempt.wait_seconds <= 22.0
    assert plan(asked, A, now=9.0) == Stop(StopReason.DEADLINE, 20.0)
    unasked = plan(after(Outcome.THROTTLED), A)
    assert isinstance(unasked, NextAttempt)
    assert unasked.wait_seconds == 0.5


def test_the_upstream_that_is_free_soonest_is_asked_again() -> None:
    ledger = AttemptLedger(max_attempts=5, deadline=60.0)
    ledger = after(Outcome.UPSTREAM_ERROR, ledger=ledger).with_attempt(
        EndedAttempt("b", AttemptKind.EXTRA, Outcome.THROTTLED, retry_after_seconds=20.0)
    )
    next_attempt = plan(ledger, A, B)
    assert isinstance(next_attempt, NextAttempt)
    assert next_attempt.upstream == "a"


def test_a_timeout_weighs_two_and_is_not_retried_once_the_request_was_sent() -> None:
    assert plan(after(Outcome.TIMEOUT), A, B) == Stop(StopReason.FINAL)
    assert plan(after(Outcome.TIMEOUT, sent=False), A, B) == NextAttempt("b", AttemptKind.EXTRA, 0.0, 2.0)
    assert plan(after(Outcome.TIMEOUT, sent=False), A, B, tokens=1.9) == Stop(
        StopReason.RETRY_BUDGET_EXHAUSTED
    )
    assert plan(after(Outcome.TIMEOUT), A, B, retry_timeouts=True) == NextAttempt(
        "b", AttemptKind.EXTRA, 0.0, 2.0
    )


def test_nothing_follows_what_ended_at_the_deadline_by_a_timer_that_was_early() -> None:
    late = FRESH.deadline - 0.001
    assert plan(after(Outcome.TIMEOUT), A, B, now=late, retry_timeouts=True) == Stop(StopReason.DEADLINE)
    assert plan(after(Outcome.UPSTREAM_ERROR), A, B, now=late, tokens=0.0) == Stop(StopReason.DEADLINE)
    assert isinstance(plan(FRESH, A, B, now=late), NextAttempt), "the caller's own haste"


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.OK,
        Outcome.CLIENT_ERROR,
        Outcome.REJECTED,
        Outcome.CUT,
        Outcome.CANCELLED,
        Outcome.UNAFFORDABLE,
        Outcome.LOST,
    ],
)
def test_final_outcomes(outcome: Outcome) -> None:
    assert plan(after(outcome), A, B) == Stop(StopReason.FINAL)


def test_nothing_follows_content() -> None:
    assert plan(after(Outcome.UPSTREAM_ERROR, content=True), A, B) == Stop(StopReason.CONTENT_SENT)


def test_without_tokens_there_is_no_extra_attempt() -> None:
    assert plan(after(Outcome.UPSTREAM_ERROR), A, B, tokens=0.99) == Stop(StopReason.RETRY_BUDGET_EXHAUSTED)


def test_attempts_of_another_path_count() -> None:
    ledger = AttemptLedger(max_attempts=2, deadline=30.0, prior_attempts=1)
    assert ledger.next_number == 2
    assert isinstance(plan(ledger, A), NextAttempt)
    assert plan(after(Outcome.UPSTREAM_ERROR, ledger=ledger), A, B) == Stop(StopReason.MAX_ATTEMPTS)


def test_a_request_past_its_deadline_is_not_sent() -> None:
    assert plan(FRESH, A, now=30.0) == Stop(StopReason.DEADLINE)


def test_every_outcome_has_a_row_and_only_success_deposits() -> None:
    for outcome in Outcome:
        rule = rule_for(outcome, request_sent=True)
        assert rule.deposits == (outcome is Outcome.OK)
        assert not (rule.again and rule.verdict is not Verdict.FAILURE)


upstream_views = st.lists(st.sampled_from(Admission), min_size=1, max_size=4).map(
    lambda admissions: [UpstreamView(f"u{number}", admission) for number, admission in enumerate(admissions)]
)
ended_attempts = st.builds(
    EndedAttempt,
    upstream=st.sampled_from(["u0", "u1", "u2", "gone"]),
    kind=st.sampled_from(AttemptKind),
    outcome=st.sampled_from(Outcome),
    request_sent=st.booleans(),
    content_sent=st.booleans(),
    retry_after_seconds=st.none() | st.floats(0, 100),
)


@given(
    upstreams=upstream_views,
    attempts=st.lists(ended_attempts, max_size=5),
    tokens=st.floats(0, 5),
    now=st.floats(0, 40),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_plan_keeps_every_limit(
    upstreams: list[UpstreamView], attempts: list[EndedAttempt], tokens: float, now: float, draw: float
) -> None:
    ledger = AttemptLedger(max_attempts=3, deadline=30.0, attempts=tuple(attempts))
    planned = plan_next_attempt(
        ledger, upstreams, tokens=tokens, backoff=Backoff(random=lambda: draw), now=now
    )
    if isinstance(planned, Stop):
        return
    assert len(attempts) < 3
    assert now + planned.wait_seconds < 30.0
    admission = next(view.admission for view in upstreams if view.name == planned.upstream)
    if not attempts:
        assert planned.kind is AttemptKind.FIRST
        assert admission is not Admission.REFUSE
    else:
        last = attempts[-1]
        assert planned.kind is AttemptKind.EXTRA
        assert admission is Admission.PASS
        assert 1.0 <= planned.weight <= tokens
        assert not last.content_sent
        assert last.outcome in {Outcome.UPSTREAM_ERROR, Outcome.THROTTLED, Outcome.TIMEOUT}
        assert not (last.outcome is Outcome.TIMEOUT and last.request_sent)
        if planned.upstream == last.upstream and last.retry_after_seconds is not None:
            assert planned.wait_seconds >= last.retry_after_seconds
