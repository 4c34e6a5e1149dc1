"""What one llm-proxy replica knows of its upstreams and of its retry budget, across requests.

A breaker and latencies per upstream, the bucket that extra attempts are paid from, and the back-off between them.
It plans, admits and learns; it sends nothing and holds nothing of any one request (`pursuit.RequestPursuit`).
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from hybridroute_api.facts import (
    BREAKER_CAUSE,
    BREAKER_OPENED,
    BREAKER_STATE,
    HEDGES,
    RETRY_DEPOSITS,
    RETRY_EXTRA_ATTEMPTS,
    RETRY_REFUSALS,
    RETRY_TOKENS,
)
from hybridroute_api.serving import LlmPolicy, Upstream
from hybridroute_api.vocabulary import Api, Outcome
from hybridroute_serve.retries.attempts import (
    AttemptKind,
    AttemptLedger,
    NextAttempt,
    Stop,
    StopReason,
    UpstreamView,
    plan_next_attempt,
    rule_for,
)
from hybridroute_serve.retries.backoff import Backoff
from hybridroute_serve.retries.breaker import (
    Admission,
    Breaker,
    BreakerState,
    OpeningCause,
    Permit,
    Verdict,
)
from hybridroute_serve.retries.bucket import RetryBucket
from hybridroute_serve.retries.hedging import HedgeTerms, LatencyWindow, plan_hedge
from hybridroute_serve.retries.sightings import Sighting, UpstreamPlace
from hybridroute_serve.upstream.books import AttemptEnd
from hybridroute_serve.upstream.target import AttemptTarget, provider_target

__all__ = ["GuardedUpstream", "UpstreamGuard", "Upstreams"]

_LOG = logging.getLogger(__name__)

_LATENCIES_FOR_SILENCE = 20
"""Fewer do not say how long an upstream takes when it is well."""
_SLOWER_THAN_P95 = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class GuardedUpstream:
    """One upstream, and what this replica has seen of it."""

    config: Upstream
    breaker: Breaker = field(default_factory=Breaker)
    latencies: LatencyWindow = field(default_factory=LatencyWindow)
    """Of unary answers."""
    _targets: dict[Api, AttemptTarget] = field(default_factory=dict)

    def target(self, api: Api) -> AttemptTarget:
        """Return where its attempts go: made once, as long as its configuration stays."""
        known = self._targets.get(api)
        if known is None:
            known = self._targets[api] = provider_target(self.config, api)
        return known

    def is_silent(self, now: float) -> bool:
        """Say whether attempts wait longer than a first byte may take, and than its answers take: is it hanging?"""
        waited_seconds = self.breaker.silent_seconds(now)
        if (
            waited_seconds <= self.config.timeouts.first_byte_seconds
            or len(self.latencies) < _LATENCIES_FOR_SILENCE
        ):
            return False
        return waited_seconds > _SLOWER_THAN_P95 * self.latencies.p95_seconds()

    def with_config(self, config: Upstream) -> "GuardedUpstream":
        """Return it with another configuration of the same place. How long another model takes is not known yet."""
        latencies = self.latencies if config.model == self.config.model else LatencyWindow()
        return GuardedUpstream(config, self.breaker, latencies)

    @property
    def place(self) -> UpstreamPlace:
        """What anything that was seen holds for."""
        return _place(self.config)


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The upstreams of one policy, in order of preference. A request keeps those that it began with."""

    policy: LlmPolicy
    guarded: tuple[GuardedUpstream, ...]
    longest_seconds: float
    """How long a request may take (`LlmPolicy.longest_seconds`)."""

    def find(self, name: str) -> GuardedUpstream:
        """Return one by its name."""
        return next(one for one in self.guarded if one.config.name == name)

    def views(self, now: float, given_up: Collection[str] = ()) -> list[UpstreamView]:
        """Return them as a plan sees them; those that the request has given up on take nothing."""
        return [
            UpstreamView(
                one.config.name,
                Admission.REFUSE if one.config.name in given_up else one.breaker.offer(now),
                one.breaker.is_overdue(now),
            )
            for one in self.guarded
        ]

    def has_alternative(self, to: GuardedUpstream, now: float) -> bool:
        """Say whether first attempts have another upstream to go to."""
        return any(one.breaker.offer(now) is Admission.PASS for one in self.guarded if one is not to)

    def reopens_in(self, now: float) -> float:
        """Seconds until one of them may take a first attempt."""
        return min(one.breaker.reopens_in(now) for one in self.guarded)


class UpstreamGuard:
    """One a replica. `monotonic_clock` is that of the bucket's share."""

    def __init__(self, *, monotonic_clock: Callable[[], float], random: Callable[[], float]) -> None:
        self.clock = monotonic_clock
        self.bucket = RetryBucket(ratio=0.0, now=monotonic_clock())
        self._backoff = Backoff(random)
        self._upstreams: Upstreams | None = None
        self._down_elsewhere: frozenset[UpstreamPlace] = frozenset()
        self._refusals = 0
        self._hedges = 0

    def follow(self, policy: LlmPolicy) -> Upstreams:
        """Return the policy's upstreams with what is known of them; it is the policy in force from now on."""
        known = self._upstreams
        if known is not None and known.policy is policy:
            return known
        seen = known.guarded if known is not None else ()
        guarded = []
        for config in policy.upstreams:
            same = next((one for one in seen if one.place == _place(config)), None)
            guarded.append(GuardedUpstream(config) if same is None else same.with_config(config))
        self.bucket.change_ratio(policy.retries.ratio)
        self._upstreams = Upstreams(policy, tuple(guarded), policy.longest_seconds)
        self._heed()
        return self._upstreams

    def sightings(self) -> tuple[Sighting, ...]:
        """Return what this replica's own attempts have lately met, for the others."""
        now = self.clock()
        return tuple(
            Sighting(one.place, is_down=one.breaker.state(now) is not BreakerState.CLOSED)
            for one in (self._upstreams.guarded if self._upstreams is not None else ())
            if one.breaker.has_seen(now)
        )

    def hear(self, down: tuple[UpstreamPlace, ...]) -> None:
        """Take what the others have found down; it may come before the policy that names these upstreams."""
        self._down_elsewhere = frozenset(down)
        self._heed()

    def plan(
        self, ledger: AttemptLedger, upstreams: Upstreams, given_up: Collection[str]
    ) -> NextAttempt | Stop:
        """Say what comes next for a request. A stop for want of a token is counted."""
        now = self.clock()
        for one in upstreams.guarded:
            if one.is_silent(now) and upstreams.has_alternative(one, now):
                one.breaker.open_for_silence(now)
                _log_change(one, was=None)
        plan = plan_next_attempt(
            ledger,
            upstreams.views(now, given_up),
            tokens=self.bucket.tokens(now),
            backoff=self._backoff,
            now=now,
            retry_timeouts=upstreams.policy.retries.retry_timeouts,
        )
        if isinstance(plan, Stop) and plan.reason is StopReason.RETRY_BUDGET_EXHAUSTED:
            self._refusals += 1
        return plan

    def plan_hedge(
        self,
        ledger: AttemptLedger,
        upstreams: Upstreams,
        given_up: Collection[str],
        *,
        under_way: GuardedUpstream,
        streamed: bool,
        hedged: bool,
    ) -> NextAttempt | None:
        """Say what to send beside an attempt that has just been sent, should it be slow."""
        if not upstreams.policy.retries.hedging:
            return None
        now = self.clock()
        return plan_hedge(
            ledger,
            upstreams.views(now, given_up),
            under_way=under_way.config.name,
            streamed=streamed,
            hedged=hedged,
            seen=under_way.latencies,
            terms=HedgeTerms(enabled=True),
            tokens=self.bucket.tokens(now),
            elapsed_seconds=0.0,
            now=now,
        )

    def admit(self, plan: NextAttempt, to: GuardedUpstream) -> Permit | None:
        """Take the plan's token and let it through; None when either is gone by now: plan again."""
        now = self.clock()
        first = plan.kind is AttemptKind.FIRST
        if plan.weight > 0:
            offer = to.breaker.offer(now)
            if offer is Admission.REFUSE or (offer is Admission.PROBE and not first):
                return None
            if not self.bucket.try_withdraw(plan.weight, now):
                return None
        permit = to.breaker.admit(now, first=first)
        self._hedges += permit is not None and plan.kind is AttemptKind.HEDGE
        return permit

    def record(
        self,
        to: GuardedUpstream,
        permit: Permit,
        end: AttemptEnd,
        upstreams: Upstreams,
        *,
        patience_ended: bool,
    ) -> None:
        """Learn from an attempt's end. `patience_ended`: the caller's deadline cut it short."""
        now, was = self.clock(), to.breaker.cause
        rule = rule_for(end.outcome, request_sent=end.request_sent)
        failed = rule.verdict is Verdict.FAILURE
        blameless = end.client_blocked or patience_ended
        to.breaker.record(
            permit,
            Verdict.NEUTRAL if blameless and failed else rule.verdict,
            now,
            alternative=failed and upstreams.has_alternative(to, now),
            tokens=self.bucket.tokens(now) if failed else 0.0,
            weight=rule.weight,
            retry_after_seconds=(end.failure.retry_after_seconds if end.failure else None) or 0.0,
        )
        _log_change(to, was)
        if rule.deposits:
            self.bucket.deposit_success(now)
        if end.outcome is Outcome.OK and not end.streamed:
            to.latencies.add(end.total_seconds)

    def saw_content(self, of: GuardedUpstream, permit: Permit) -> None:
        """Learn that an answer has begun."""
        was = of.breaker.cause
        of.breaker.saw_content(permit)
        _log_change(of, was)

    def give_back(self, to: GuardedUpstream, permit: Permit) -> None:
        """Bring back the permit of an attempt that was not sent after all."""
        to.breaker.record(permit, Verdict.NEUTRAL, self.clock(), alternative=False, tokens=0.0)

    def facts(self) -> dict[str, str]:
        """Return what a heartbeat says: each breaker's state, and the retry budget's counters."""
        now = self.clock()
        counters = self.bucket.counters()
        facts = {
            RETRY_TOKENS: f"{self.bucket.tokens(now):.3f}",
            RETRY_REFUSALS: str(self._refusals),
            RETRY_EXTRA_ATTEMPTS: str(counters.withdrawals),
            RETRY_DEPOSITS: str(counters.deposits),
            HEDGES: str(self._hedges),
        }
        for one in self._upstreams.guarded if self._upstreams is not None else ():
            facts[BREAKER_STATE + one.config.name] = one.breaker.state(now)
            facts[BREAKER_OPENED + one.config.name] = str(one.breaker.opened)
            if one.breaker.cause is not None:
                facts[BREAKER_CAUSE + one.config.name] = one.breaker.cause
        return facts

    def _heed(self) -> None:
        now = self.clock()
        for one in self._upstreams.guarded if self._upstreams is not None else ():
            if one.place in self._down_elsewhere:
                was = one.breaker.cause
                one.breaker.open_as_told(now)
                _log_change(one, was)


def _log_change(one: GuardedUpstream, was: OpeningCause | None) -> None:
    cause = one.breaker.cause
    if cause is not None and was is None:
        _LOG.warning("left an upstream upstream=%s cause=%r", one.config.name, str(cause))
    elif cause is None and was is not None:
        _LOG.info("an upstream is back upstream=%s", one.config.name)


def _place(config: Upstream) -> UpstreamPlace:
    return UpstreamPlace(config.name, config.base_url)
