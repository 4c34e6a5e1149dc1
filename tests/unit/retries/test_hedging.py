"""When a second attempt runs beside a slow first one."""

from typing import Any

import pytest
from msgspec.structs import replace

from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.retries.attempts import (
    AttemptKind,
    AttemptLedger,
    EndedAttempt,
    NextAttempt,
    UpstreamView,
)
from hybridroute_serve.retries.breaker import Admission
from hybridroute_serve.retries.hedging import HedgeTerms, LatencyWindow, plan_hedge

LEDGER = AttemptLedger(max_attempts=3, deadline=30.0)
A = UpstreamView("a", Admission.PASS)
B = UpstreamView("b", Admission.PASS)


def seen(count: int = 100) -> LatencyWindow:
    window = LatencyWindow()
    for number in range(count):
        window.add((number + 1) / 4)
    return window


def hedge(*upstreams: UpstreamView, ledger: AttemptLedger = LEDGER, **changes: Any) -> NextAttempt | None:
    arguments: dict[str, Any] = {
        "under_way": "a",
        "streamed": False,
        "hedged": False,
        "seen": seen(),
        "terms": HedgeTerms(enabled=True),
        "tokens": 1.0,
        "elapsed_seconds": 3.75,
        "now": 0.0,
    }
    return plan_hedge(ledger, upstreams, **(arguments | changes))


def test_after_the_95th_percentile_on_another_upstream_for_a_token() -> None:
    assert hedge(A, B) == NextAttempt("b", AttemptKind.HEDGE, 20.0, 1.0)
    assert hedge(A, B, elapsed_seconds=29.0) == NextAttempt("b", AttemptKind.HEDGE, 0.0, 1.0)


def test_on_the_same_upstream_when_it_is_alone_or_the_other_has_failed() -> None:
    expected = NextAttempt("a", AttemptKind.HEDGE, 20.0, 1.0)
    failed = LEDGER.with_attempt(EndedAttempt("b", AttemptKind.FIRST, Outcome.UPSTREAM_ERROR))
    assert hedge(A) == expected
    assert hedge(A, B, ledger=failed) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"terms": HedgeTerms()},
        {"streamed": True},
        {"hedged": True},
        {"seen": seen(49)},
        {"tokens": 0.9},
        {"now": 10.0},
        {"ledger": replace(LEDGER, max_attempts=1)},
    ],
    ids=str,
)
def test_no_hedge(change: dict[str, Any]) -> None:
    assert hedge(A, B, **change) is None


def test_no_hedge_to_an_upstream_that_is_not_healthy() -> None:
    assert hedge(UpstreamView("a", Admission.REFUSE), UpstreamView("b", Admission.PROBE)) is None


def test_the_window_forgets_the_oldest_and_has_no_percentile_when_empty() -> None:
    window = LatencyWindow(size=3)
    with pytest.raises(ValueError, match="no latency"):
        window.p95_seconds()
    for latency in (9.0, 1.0, 2.0, 3.0):
        window.add(latency)
    assert window.p95_seconds() == 3.0
    assert len(window) == 3
