"""One breaker on a virtual clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_serve.retries.breaker import (
    Admission,
    Breaker,
    BreakerSettings,
    BreakerState,
    OpeningCause,
    Verdict,
)

RICH = 1_000.0


def fail(breaker: Breaker, now: float, *, tokens: float = RICH, alternative: bool = True) -> None:
    permit = breaker.admit(now, first=True)
    assert permit is not None
    breaker.record(permit, Verdict.FAILURE, now, alternative=alternative, tokens=tokens)


def succeed(breaker: Breaker, now: float) -> None:
    permit = breaker.admit(now, first=True)
    assert permit is not None
    breaker.record(permit, Verdict.SUCCESS, now, alternative=True, tokens=RICH)


def opened_breaker(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(5):
        fail(breaker, now)
    assert breaker.state(now) is BreakerState.OPEN
    return breaker


def test_it_opens_on_consecutive_failures_and_a_success_in_between_starts_the_count_again() -> None:
    breaker = Breaker()
    for _ in range(4):
        fail(breaker, 0.0)
    succeed(breaker, 0.0)
    for _ in range(4):
        fail(breaker, 0.0)
        assert breaker.offer(0.0) is Admission.PASS
    fail(breaker, 0.0)
    assert breaker.offer(0.0) is Admission.REFUSE
    assert breaker.admit(0.0, first=True) is None
    assert breaker.opened == 1


def test_it_opens_when_half_of_the_window_fails() -> None:
    breaker = Breaker()
    for number in range(9):
        (fail if number % 2 else succeed)(breaker, number * 0.1)
    assert breaker.state(1.0) is BreakerState.CLOSED
    fail(breaker, 1.0)
    assert breaker.state(1.0) is BreakerState.OPEN


def test_failures_that_have_left_the_window_do_not_count() -> None:
    breaker = Breaker()
    for _ in range(4):
        fail(breaker, 0.0)
    for _ in range(8):
        succeed(breaker, 5.0)
    for _ in range(4):
        fail(breaker, 10.1)
    assert breaker.state(10.1) is BreakerState.CLOSED


@given(tokens=st.floats(1.0, 30.0))
def test_it_opens_before_the_tokens_are_spent(tokens: float) -> None:
    """Every failure until it opens can be paid for, the one that opens it included."""
    breaker, left = Breaker(), tokens
    while breaker.offer(0.0) is Admission.PASS:
        fail(breaker, 0.0, tokens=left)
        left -= 1.0
    assert left >= 0.0


def test_with_nowhere_else_to_go_it_is_patient() -> None:
    breaker = Breaker()
    for _ in range(19):
        fail(breaker, 0.0, tokens=0.0, alternative=False)
        assert breaker.state(0.0) is BreakerState.CLOSED
    fail(breaker, 0.0, tokens=0.0, alternative=False)
    assert breaker.state(0.0) is BreakerState.OPEN


def test_half_open_lets_one_first_attempt_through_and_no_extra_one() -> None:
    breaker = opened_breaker()
    assert breaker.reopens_in(0.25) == pytest.approx(0.75)
    assert breaker.state(1.0) is BreakerState.HALF_OPEN
    assert breaker.offer(1.0) is Admission.PROBE
    assert breaker.admit(1.0, first=False) is None
    permit = breaker.admit(1.0, first=True)
    assert permit is not None
    assert permit.probe
    assert breaker.admit(1.0, first=True) is None
    breaker.record(permit, Verdict.SUCCESS, 1.2, alternative=True, tokens=RICH)
    assert breaker.state(1.2) is BreakerState.CLOSED


def test_each_failed_probe_doubles_the_wait_up_to_a_limit_and_a_success_resets_it() -> None:
    breaker, now, waits = opened_breaker(), 0.0, []
    for _ in range(6):
        wait = breaker.reopens_in(now)
        waits.append(wait)
        now += wait
        fail(breaker, now)
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    now += breaker.reopens_in(now)
    succeed(breaker, now)
    for _ in range(5):
        fail(breaker, now)
    assert breaker.reopens_in(now) == 1.0


def test_with_nowhere_else_to_go_it_probes_every_second() -> None:
    breaker, now = opened_breaker(), 0.0
    for _ in range(3):
        now += breaker.reopens_in(now)
        fail(breaker, now, alternative=False)
        assert breaker.reopens_in(now) == 1.0


def test_a_probe_that_says_nothing_makes_room_for_the_next() -> None:
    breaker = opened_breaker()
    permit = breaker.admit(1.0, first=True)
    assert permit is not None
    breaker.record(permit, Verdict.NEUTRAL, 1.1, alternative=True, tokens=RICH)
    assert breaker.offer(1.1) is Admission.PROBE


def test_a_probe_that_is_never_heard_of_does_not_keep_it_shut_for_ever() -> None:
    breaker = opened_breaker()
    assert breaker.admit(1.0, first=True) is not None
    assert breaker.offer(100.0) is Admission.REFUSE
    assert breaker.offer(121.0) is Admission.PROBE


def test_a_streams_first_content_passes_the_probe_and_its_cut_still_counts() -> None:
    breaker = Breaker(BreakerSettings(consecutive_failures=1))
    fail(breaker, 0.0)
    permit = breaker.admit(1.0, first=True)
    assert permit is not None
    breaker.saw_content(permit)
    assert breaker.state(1.0) is BreakerState.CLOSED
    breaker.record(permit, Verdict.FAILURE, 9.0, alternative=True, tokens=RICH)
    assert breaker.state(9.0) is BreakerState.OPEN


def test_attempts_from_before_it_opened_change_nothing() -> None:
    breaker = Breaker()
    early = [breaker.admit(0.0, first=True) for _ in range(3)]
    for _ in range(5):
        fail(breaker, 0.5)
    for permit, verdict in zip(early, (Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL), strict=True):
        assert permit is not None
        breaker.record(permit, verdict, 1.0, alternative=True, tokens=RICH)
    assert breaker.reopens_in(1.0) == pytest.approx(0.5)


def test_a_named_time_keeps_it_open_for_so_long_within_reason() -> None:
    for asked, expected in ((0.2, 1.0), (7.0, 7.0), (3_600.0, 30.0)):
        breaker = Breaker(BreakerSettings(consecutive_failures=1))
        permit = breaker.admit(0.0, first=True)
        assert permit is not None
        breaker.record(permit, Verdict.FAILURE, 0.0, alternative=True, tokens=RICH, retry_after_seconds=asked)
        assert breaker.reopens_in(0.0) == expected


def test_a_new_replica_is_told_and_probes_like_the_others() -> None:
    breaker = Breaker()
    breaker.open_as_told(0.0)
    assert breaker.offer(0.5) is Admission.REFUSE
    assert breaker.offer(1.0) is Admission.PROBE
    breaker.open_as_told(1.0)
    assert breaker.offer(1.0) is Admission.PROBE


def test_one_that_has_seen_for_itself_believes_nobody_until_that_is_long_ago() -> None:
    breaker = Breaker()
    assert not breaker.has_seen(0.0)
    succeed(breaker, 0.0)
    assert breaker.has_seen(29.9)
    breaker.open_as_told(29.9)
    assert breaker.state(29.9) is BreakerState.CLOSED
    assert not breaker.has_seen(30.0)
    breaker.open_as_told(30.0)
    assert breaker.state(30.0) is BreakerState.OPEN


def test_what_it_was_told_is_nothing_that_it_has_seen() -> None:
    breaker = Breaker()
    early = breaker.admit(0.0, first=True)
    assert early is not None
    breaker.open_as_told(0.0)
    breaker.record(early, Verdict.FAILURE, 0.5, alternative=True, tokens=RICH)
    assert not breaker.has_seen(0.5), "it was sent before"
    probe = breaker.admit(1.0, first=True)
    assert probe is not None
    breaker.record(probe, Verdict.NEUTRAL, 1.0, alternative=True, tokens=RICH)
    assert not breaker.has_seen(1.0)
    fail(breaker, 1.0)
    assert breaker.has_seen(1.0)


def test_it_is_silent_while_as_many_wait_as_would_open_it_and_nothing_comes() -> None:
    breaker = Breaker()
    permits = [breaker.admit(float(number), first=True) for number in range(4)]
    assert breaker.silent_seconds(50.0) == 0.0, "too few to say"
    permits.append(breaker.admit(4.0, first=True))
    assert breaker.silent_seconds(50.0) == 46.0
    permits.append(breaker.admit(5.0, first=True))
    assert breaker.silent_seconds(50.0) == 46.0

    first = permits[0]
    assert first is not None
    breaker.record(first, Verdict.NEUTRAL, 50.0, alternative=True, tokens=RICH)
    assert breaker.silent_seconds(50.0) == 45.0, "a client that leaves is no answer"

    breaker.open_for_silence(50.0)
    assert breaker.offer(50.0) is Admission.REFUSE
    assert breaker.has_seen(50.0), "the others are told"
    assert breaker.silent_seconds(51.0) == 0.0
    assert breaker.offer(51.0) is Admission.PROBE


@pytest.mark.parametrize("heard", ["success", "content"])
def test_whatever_comes_ends_the_silence(heard: str) -> None:
    breaker = Breaker()
    permits = [breaker.admit(0.0, first=True) for _ in range(9)]
    assert breaker.silent_seconds(50.0) == 50.0
    last = permits[-1]
    assert last is not None
    if heard == "content":
        breaker.saw_content(last)
    else:
        breaker.record(last, Verdict.SUCCESS, 50.0, alternative=True, tokens=RICH)
    assert breaker.silent_seconds(50.0) == 0.0
    for _ in range(4):
        breaker.admit(50.0, first=True)
    assert breaker.silent_seconds(90.0) == 0.0


@pytest.mark.parametrize("heard", ["success", "content"])
@pytest.mark.parametrize("after_seconds", [0.5, 1.5])
def test_an_answer_to_what_was_sent_before_ends_a_silence_that_opened_it(
    heard: str, after_seconds: float
) -> None:
    breaker = Breaker()
    early, *_ = [breaker.admit(0.0, first=True) for _ in range(5)]
    assert early is not None
    breaker.open_for_silence(50.0)
    assert breaker.offer(50.0 + after_seconds) is not Admission.PASS
    if heard == "content":
        breaker.saw_content(early)
    else:
        breaker.record(early, Verdict.SUCCESS, 50.0 + after_seconds, alternative=True, tokens=RICH)
    assert breaker.offer(50.0 + after_seconds) is Admission.PASS


def test_once_a_probe_has_failed_an_early_answer_no_longer_closes_it() -> None:
    breaker = Breaker()
    early, *_ = [breaker.admit(0.0, first=True) for _ in range(5)]
    assert early is not None
    breaker.open_for_silence(50.0)
    fail(breaker, 51.0)
    breaker.record(early, Verdict.SUCCESS, 51.5, alternative=True, tokens=RICH)
    assert breaker.state(51.5) is BreakerState.OPEN


def test_it_says_why_it_opened_until_it_is_closed() -> None:
    breaker = Breaker()
    fail(breaker, 0.0)
    assert breaker.cause is None
    fail(breaker, 0.0, tokens=1.5)
    assert breaker.cause is OpeningCause.TOKENS
    fail(breaker, 1.0)
    assert breaker.cause is OpeningCause.TOKENS, "a probe that fails is no cause of its own"
    succeed(breaker, 3.0)
    assert breaker.cause is None
    for _ in range(5):
        fail(breaker, 3.0)
    assert breaker.cause is OpeningCause.FAILURES
    succeed(breaker, 4.0)
    for number in range(10):
        (fail if number % 2 else succeed)(breaker, 4.0)
    assert breaker.cause is OpeningCause.SHARE
    succeed(breaker, 5.0)
    breaker.open_for_silence(5.0)
    assert breaker.cause is OpeningCause.SILENCE
    told = Breaker()
    told.open_as_told(0.0)
    assert told.cause is OpeningCause.TOLD
