"""Waits, and the header that names one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import AsyncRetrying, stop_never

from hybridroute_serve.retries.backoff import (
    Backoff,
    BackoffClass,
    FullJitter,
    parse_retry_after,
)

NOW = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110."""


@given(
    kind=st.sampled_from(BackoffClass),
    extra_attempt=st.integers(1, 10_000),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_full_jitter_stays_below_its_doubling_limit(
    kind: BackoffClass, extra_attempt: int, draw: float
) -> None:
    base, most = (0.05, 2.0) if kind is BackoffClass.TRANSPORT else (1.0, 20.0)
    seconds = Backoff(random=lambda: draw).seconds(kind, extra_attempt)
    assert 0 <= seconds <= min(most, base * 2.0 ** min(extra_attempt - 1, 1000))


def test_full_jitter_spreads_over_the_whole_range() -> None:
    draws = random.Random(7)
    jitter = FullJitter(base_seconds=1.0, most_seconds=8.0, random=draws.random)
    seconds = [jitter.seconds(3) for _ in range(2_000)]
    assert min(seconds) < 0.1
    assert max(seconds) > 3.9
    assert sum(seconds) / len(seconds) == pytest.approx(2.0, abs=0.1)


@given(asked=st.floats(0, 1e6), draw=st.floats(0, 1, exclude_max=True))
def test_a_named_time_is_never_undercut(asked: float, draw: float) -> None:
    backoff = Backoff(random=lambda: draw)
    seconds = backoff.seconds(BackoffClass.THROTTLING, 1, retry_after_seconds=asked)
    assert asked <= seconds <= asked * 1.1


async def test_full_jitter_is_a_tenacity_strategy() -> None:
    waited: list[float] = []
    failures = [OSError(), OSError(), OSError()]

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def attempt() -> str:
        if failures:
            raise failures.pop()
        return "answered"

    wait = FullJitter(base_seconds=0.05, most_seconds=2.0, random=lambda: 0.5)
    assert await AsyncRetrying(sleep=sleep, wait=wait, stop=stop_never)(attempt) == "answered"
    assert waited == [0.025, 0.05, 0.1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("30", 30.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("Sun, 06 Nov 1994 08:50:07 GMT", 30.0),
        ("Sunday, 06-Nov-94 08:50:07 GMT", 30.0),
        ("Sun Nov  6 08:50:07 1994", 30.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("Sun, 99 Nov 1994 08:50:07 GMT", None),
    ],
)
def test_retry_after(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value, NOW) == expected


@given(st.text(max_size=60))
def test_any_text_is_a_time_from_now_or_unreadable(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0
