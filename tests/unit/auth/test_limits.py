"""Requests and tokens per minute: bounds over every interval, waits that suffice, headers that say so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_serve.auth.clients import Client
from hybridroute_serve.auth.limits import Excess, LimitKind, RateLimits


def a_client(requests: int | None = None, tokens: int | None = None, name: str = "bot") -> Client:
    return Client(name, (), requests_per_minute=requests, tokens_per_minute=tokens)


def test_a_minutes_requests_may_come_at_once_and_then_one_a_second():
    limits, client = RateLimits(), a_client(requests=60)

    at_once = [limits.admit_request(client, 0.0, replicas=1) for _ in range(61)]
    assert at_once == [None] * 60 + [Excess(LimitKind.REQUESTS, 60, 1, 1.0)]
    assert limits.admit_request(client, 0.5, replicas=1).retry_after_seconds == pytest.approx(0.5)
    assert limits.admit_request(client, 1.0, replicas=1) is None


def test_clients_do_not_take_from_each_other():
    limits = RateLimits()

    assert limits.admit_request(a_client(1, name="a"), 0.0, replicas=1) is None
    assert limits.admit_request(a_client(1, name="b"), 0.0, replicas=1) is None
    assert limits.admit_request(a_client(1, name="a"), 0.0, replicas=1) is not None


def test_a_client_without_limits_is_never_refused_and_gets_no_headers():
    limits, client = RateLimits(), a_client()

    assert all(limits.admit_request(client, 0.0, replicas=1) is None for _ in range(1000))
    assert limits.admit_tokens(client, 10**12, 0.0, replicas=1) is None
    assert limits.headers(client, 0.0, replicas=1) == []


def test_more_tokens_than_the_limit_are_refused_for_good():
    excess = RateLimits().admit_tokens(a_client(tokens=100), 101, 0.0, replicas=1)

    assert excess == Excess(LimitKind.TOKENS, 100, 101, None)


def test_a_request_larger_than_a_replicas_part_is_let_through_and_paid_off():
    limits, client = RateLimits(), a_client(tokens=100)

    assert limits.admit_tokens(client, 80, 0.0, replicas=4) is None
    # 25 less 80 is a debt of 55; one token needs 56, which take 56 / 25 of a minute.
    assert limits.admit_tokens(client, 1, 0.0, replicas=4).retry_after_seconds == pytest.approx(56 / 25 * 60)
    assert limits.admit_tokens(client, 1, 56 / 25 * 60, replicas=4) is None


def test_a_part_of_less_than_one_request_still_serves_one():
    limits, client = RateLimits(), a_client(requests=1)

    assert limits.admit_request(client, 0.0, replicas=4) is None
    assert limits.admit_request(client, 0.0, replicas=4).retry_after_seconds == pytest.approx(240.0)


def test_another_limit_or_number_of_replicas_does_not_forget_what_was_used():
    limits = RateLimits()

    assert limits.admit_tokens(a_client(tokens=100), 80, 0.0, replicas=1) is None
    assert limits.admit_tokens(
        a_client(tokens=200), 21, 0.0, replicas=1
    ).retry_after_seconds == pytest.approx(0.3)
    # Half of the limit is this replica's now: 20 are left, and 50 come in a minute.
    assert limits.admit_tokens(
        a_client(tokens=100), 21, 0.0, replicas=2
    ).retry_after_seconds == pytest.approx(1.2)
    assert limits.admit_tokens(a_client(tokens=100), 21, 1.2, replicas=2) is None


def test_headers_are_openais():
    limits, client = RateLimits(), a_client(requests=60, tokens=6000)
    limits.admit_request(client, 0.0, replicas=1)
    limits.admit_tokens(client, 1500, 0.0, replicas=1)

    assert dict(limits.headers(client, 0.0, replicas=1)) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"4500",
        b"x-ratelimit-reset-tokens": b"15s",
    }


@pytest.mark.parametrize(
    ("waited", "reset"),
    [(0.0, b"2m0s"), (0.25, b"1m59.75s"), (60.0, b"1m0s"), (90.5, b"29.5s"), (300.0, b"0s")],
)
def test_a_reset_of_more_than_a_minute_is_written_in_minutes(waited, reset):
    limits, client = RateLimits(), a_client(tokens=100)
    limits.admit_tokens(client, 100, 0.0, replicas=2)

    # A part of 50 is 50 in debt: twice its minute until it is whole.
    assert dict(limits.headers(client, waited, replicas=2))[b"x-ratelimit-reset-tokens"] == reset


def test_a_clock_that_stands_still_or_steps_back_gives_nothing():
    limits, client = RateLimits(), a_client(requests=1)

    assert limits.admit_request(client, 100.0, replicas=1) is None
    assert limits.admit_request(client, 40.0, replicas=1) is not None


asks = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), min_size=1, max_size=60)


@given(per_minute=st.integers(50, 500), replicas=st.integers(1, 4), asks=asks)
def test_no_interval_holds_more_than_burst_rate_and_one_request(per_minute, replicas, asks):
    """On one replica: tokens admitted in [s, t] ≤ part + part x (t - s) / 60 + the largest request, its debt."""
    limits, client = RateLimits(), a_client(tokens=per_minute)
    part = per_minute / replicas
    now, admitted = 0.0, []
    for gap, tokens in asks:
        now += gap
        if limits.admit_tokens(client, tokens, now, replicas=replicas) is None:
            admitted.append((now, tokens))
    for first, (start, _) in enumerate(admitted):
        for last in range(first, len(admitted)):
            taken = sum(tokens for _, tokens in admitted[first : last + 1])
            allowed = max(1.0, part) + part * (admitted[last][0] - start) / 60
            assert taken <= allowed + 50 + 1e-6


@given(per_minute=st.integers(1, 500), replicas=st.integers(1, 4), asks=asks)
def test_who_waits_as_told_is_let_in(per_minute, replicas, asks):
    limits, client = RateLimits(), a_client(tokens=per_minute)
    now = 0.0
    for gap, tokens in asks:
        now += gap
        excess = limits.admit_tokens(client, tokens, now, replicas=replicas)
        if excess is None:
            continue
        if excess.retry_after_seconds is None:
            assert tokens > per_minute
            continue
        now += excess.retry_after_seconds
        assert limits.admit_tokens(client, tokens, now + 1e-6, replicas=replicas) is None
        now += 1e-6
