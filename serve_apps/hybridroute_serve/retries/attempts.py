"""What follows an attempt: the class table, one ledger of attempts per request, and the plan for the next.

One owner: whoever sends attempts keeps an `AttemptLedger` for the request and asks `plan_next_attempt` before
each, within `max_attempts` and the deadline. A plan takes no token: `RetryBucket.try_withdraw` does, when an
extra attempt is sent, and `Breaker.admit` lets it through; if either says no by then, plan again.
Nothing is retried once content has reached the client, nor a 4xx, nor (by default) a timeout after the request
was sent, since the upstream may bill both. Pure; times are seconds of the monotonic clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.retries.backoff import Backoff, BackoffClass
from hybridroute_serve.retries.breaker import Admission, Verdict

__all__ = [
    "TIMER_SLACK_SECONDS",
    "AttemptKind",
    "AttemptLedger",
    "EndedAttempt",
    "NextAttempt",
    "OutcomeRule",
    "Stop",
    "StopReason",
    "UpstreamView",
    "plan_next_attempt",
    "rule_for",
]

TIMER_SLACK_SECONDS = 0.01
"""By how much an event loop's timer may be early: what ended at the deadline may seem to have some time left."""


class AttemptKind(StrEnum):
    """Why an attempt is sent."""

    FIRST = "first"
    """The request's own, or an escalation for quality. Costs no retry token, wherever it goes."""
    EXTRA = "extra"
    """A failure caused it: a retry, or a fallback to another upstream."""
    HEDGE = "hedge"
    """The one before is slow."""


class StopReason(StrEnum):
    """Why there is no next attempt."""

    FINAL = "final"
    """The last outcome is not one to try again after."""
    CONTENT_SENT = "content_sent"
    MAX_ATTEMPTS = "max_attempts"
    DEADLINE = "deadline"
    """The next attempt could not even start in time."""
    RETRY_BUDGET_EXHAUSTED = "retry_budget_exhausted"
    NO_UPSTREAM = "no_upstream"
    """Every breaker that matters is open."""


@dataclass(frozen=True, slots=True)
class OutcomeRule:
    """What an outcome means for what comes after."""

    again: bool
    """Another attempt may follow."""
    backoff: BackoffClass | None
    """How long the same upstream is left alone; another one is asked at once."""
    weight: float
    """Retry tokens that the attempt after it takes."""
    verdict: Verdict
    """What its breaker learns."""
    deposits: bool = False
    """It fills the retry bucket."""


_FINAL = OutcomeRule(again=False, backoff=None, weight=1.0, verdict=Verdict.NEUTRAL)
_BROKEN = OutcomeRule(again=True, backoff=BackoffClass.TRANSPORT, weight=1.0, verdict=Verdict.FAILURE)

_RULES = {
    Outcome.OK: replace(_FINAL, verdict=Verdict.SUCCESS, deposits=True),
    # A 4xx shows that the upstream is up; it must not earn retries, or bad requests would pay for them.
    Outcome.CLIENT_ERROR: replace(_FINAL, verdict=Verdict.SUCCESS),
    Outcome.REJECTED: _FINAL,
    Outcome.THROTTLED: replace(_BROKEN, backoff=BackoffClass.THROTTLING),
    Outcome.UPSTREAM_ERROR: _BROKEN,
    Outcome.TIMEOUT: replace(_BROKEN, weight=2.0),
    Outcome.CUT: replace(_FINAL, verdict=Verdict.FAILURE),
    Outcome.CANCELLED: _FINAL,
    Outcome.UNAFFORDABLE: _FINAL,
    Outcome.LOST: _FINAL,
}


def rule_for(outcome: Outcome, *, request_sent: bool, retry_timeouts: bool = False) -> OutcomeRule:
    """Return the row of the class table. `request_sent`: the upstream may have begun to work, and to bill."""
    rule = _RULES[outcome]
    if outcome is Outcome.TIMEOUT and request_sent and not retry_timeouts:
        return replace(rule, again=False, backoff=None)
    return rule


class EndedAttempt(msgspec.Struct, frozen=True):
    """One attempt that is over."""

    upstream: str
    kind: AttemptKind
    outcome: Outcome
    request_sent: bool = True
    """False: the connection never came about."""
    content_sent: bool = False
    """The client has seen some of it."""
    retry_after_seconds: float | None = None


class AttemptLedger(msgspec.Struct, frozen=True):
    """All attempts of one request so far, and their limits."""

    max_attempts: int
    """Of every kind and path together."""
    deadline: float
    """The caller's or the spec's, whichever is earlier."""
    prior_attempts: int = 0
    """Sent by another owner before: the path that the request failed over from. Its owner paid for this one."""
    attempts: tuple[EndedAttempt, ...] = ()

    @property
    def next_number(self) -> int:
        """The number of the next attempt, from 1: the value of `x-attempt`."""
        return self.prior_attempts + len(self.attempts) + 1

    def with_attempt(self, ended: EndedAttempt) -> "AttemptLedger":
        """Return the ledger with one more attempt."""
        return AttemptLedger(self.max_attempts, self.deadline, self.prior_attempts, (*self.attempts, ended))


class UpstreamView(msgspec.Struct, frozen=True):
    """One upstream as the plan sees it; in the order of preference."""

    name: str
    admission: Admission
    """`Breaker.offer(now)`."""
    overdue: bool = False
    """`Breaker.is_overdue(now)`."""


class NextAttempt(msgspec.Struct, frozen=True):
    """Send this, after the wait."""

    upstream: str
    kind: AttemptKind
    wait_seconds: float
    weight: float
    """Tokens to take from the bucket when it is sent; 0 for a first attempt."""


class Stop(msgspec.Struct, frozen=True):
    """Answer with what there is."""

    reason: StopReason
    retry_after_seconds: float | None = None
    """What to tell the client, when the upstream has said it."""


def plan_next_attempt(
    ledger: AttemptLedger,
    upstreams: Sequence[UpstreamView],
    *,
    tokens: float,
    backoff: Backoff,
    now: float,
    retry_timeouts: bool = False,
) -> NextAttempt | Stop:
    """Say what to send next, or why nothing. `tokens`: in the retry bucket now."""
    last = ledger.attempts[-1] if ledger.attempts else None
    retry_after_seconds = last.retry_after_seconds if last is not None else None
    if ledger.next_number > ledger.max_attempts:
        return Stop(StopReason.MAX_ATTEMPTS, retry_after_seconds)
    last_moment = ledger.deadline if last is None else ledger.deadline - TIMER_SLACK_SECONDS
    if now >= last_moment:
        return Stop(StopReason.DEADLINE, retry_after_seconds)
    if last is None:
        return _plan_first(upstreams, tokens)
    if last.content_sent:
        return Stop(StopReason.CONTENT_SENT)
    rule = rule_for(last.outcome, request_sent=last.request_sent, retry_timeouts=retry_timeouts)
    if not rule.again:
        return Stop(StopReason.FINAL, retry_after_seconds)
    if tokens < rule.weight:
        return Stop(StopReason.RETRY_BUDGET_EXHAUSTED, retry_after_seconds)
    waits = _waits(ledger, upstreams, backoff)
    if not waits:
        return Stop(StopReason.NO_UPSTREAM, retry_after_seconds)
    wait_seconds, name = min(waits, key=lambda wait: wait[0])
    if now + wait_seconds >= last_moment:
        return Stop(StopReason.DEADLINE, retry_after_seconds)
    return NextAttempt(name, AttemptKind.EXTRA, wait_seconds, rule.weight)


def _plan_first(upstreams: Sequence[UpstreamView], tokens: float) -> NextAttempt | Stop:
    healthy = [upstream.name for upstream in upstreams if upstream.admission is Admission.PASS]
    for upstream in upstreams:
        # A probe may fail, and then this request needs a token to go on; with no other upstream it has
        # nothing to lose. Some have to go without one, or nobody would ever find out.
        worth_probing = not healthy or tokens >= 1 or upstream.overdue
        if upstream.admission is Admission.PASS or (upstream.admission is Admission.PROBE and worth_probing):
            return NextAttempt(upstream.name, AttemptKind.FIRST, 0.0, 0.0)
    return Stop(StopReason.NO_UPSTREAM)


def _waits(
    ledger: AttemptLedger, upstreams: Sequence[UpstreamView], backoff: Backoff
) -> list[tuple[float, str]]:
    """Return each upstream's wait: none where this request has not failed yet, else by its own last failure."""
    waits = []
    for upstream in upstreams:
        if upstream.admission is not Admission.PASS:
            continue
        failures = [attempt for attempt in ledger.attempts if attempt.upstream == upstream.name]
        if not failures:
            waits.append((0.0, upstream.name))
            continue
        kind = _RULES[failures[-1].outcome].backoff or BackoffClass.TRANSPORT
        wait_seconds = backoff.seconds(
            kind, len(failures), retry_after_seconds=failures[-1].retry_after_seconds
        )
        waits.append((wait_seconds, upstream.name))
    return waits
