"""Whether to send a second attempt because the first is slow. Off unless the spec asks for it.

Unary requests only, once each, after the 95th percentile of what this replica has seen of the upstream; paid
from the same retry bucket. The loser is cancelled, and both are billed. Pure; the caller measures, sends and
cancels.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hybridroute_serve.retries.attempts import (
    AttemptKind,
    AttemptLedger,
    NextAttempt,
    UpstreamView,
)
from hybridroute_serve.retries.breaker import Admission

__all__ = ["HedgeTerms", "LatencyWindow", "plan_hedge"]

_WEIGHT = 1.0


@dataclass(frozen=True, slots=True)
class HedgeTerms:
    """When to hedge."""

    enabled: bool = False
    min_samples: int = 50
    """Fewer say nothing about a 95th percentile."""


class LatencyWindow:
    """The last so many latencies of attempts that got through, seconds."""

    __slots__ = ("_seconds",)

    def __init__(self, size: int = 500) -> None:
        self._seconds: deque[float] = deque(maxlen=size)

    def __len__(self) -> int:
        return len(self._seconds)

    def add(self, seconds: float) -> None:
        """Take one latency."""
        self._seconds.append(seconds)

    def p95_seconds(self) -> float:
        """Return the 95th percentile (nearest rank). Raises `ValueError` when empty."""
        if not self._seconds:
            raise ValueError("no latency was seen yet")
        ordered = sorted(self._seconds)
        return ordered[-(-95 * len(ordered) // 100) - 1]


def plan_hedge(
    ledger: AttemptLedger,
    upstreams: Sequence[UpstreamView],
    *,
    under_way: str,
    streamed: bool,
    hedged: bool,
    seen: LatencyWindow,
    terms: HedgeTerms,
    tokens: float,
    elapsed_seconds: float,
    now: float,
) -> NextAttempt | None:
    """Say which attempt to send beside the one under way, and in how many seconds; None for no hedge.

    `ledger` holds the attempts that ended; `under_way` is the upstream of the one that has not, sent
    `elapsed_seconds` ago; `hedged`: this request has had its hedge. Another healthy upstream is preferred.
    """
    if not terms.enabled or streamed or hedged or len(seen) < terms.min_samples:
        return None
    # The attempt under way is not in the ledger yet.
    if ledger.next_number + 1 > ledger.max_attempts or tokens < _WEIGHT:
        return None
    wait_seconds = max(0.0, seen.p95_seconds() - elapsed_seconds)
    if now + wait_seconds >= ledger.deadline:
        return None
    failed = {attempt.upstream for attempt in ledger.attempts}
    healthy = [upstream.name for upstream in upstreams if upstream.admission is Admission.PASS]
    fresh = [name for name in healthy if name != under_way and name not in failed]
    if not fresh and under_way not in healthy:
        return None
    return NextAttempt(fresh[0] if fresh else under_way, AttemptKind.HEDGE, wait_seconds, _WEIGHT)
