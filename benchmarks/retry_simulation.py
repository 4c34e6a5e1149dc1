"""Attempts per client request in an outage, in virtual time, with the retry code that serves.

Real: bucket, shares, breaker, plan, what replicas tell each other. Virtual: clock, network, upstreams, clients.
Replicas renew their shares over a network without loss.
Run: `python benchmarks/retry_simulation.py [--output FILE]`, about a minute.
"""

import argparse
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.retries.attempts import (
    AttemptKind,
    AttemptLedger,
    EndedAttempt,
    Stop,
    UpstreamView,
    plan_next_attempt,
    rule_for,
)
from hybridroute_serve.retries.backoff import Backoff
from hybridroute_serve.retries.breaker import Admission, Breaker, BreakerState
from hybridroute_serve.retries.bucket import BucketShare, RetryBucket
from hybridroute_serve.retries.shares import HeldShare, Share, ShareBook, ShareRequest, ShareTerms
from hybridroute_serve.retries.sightings import Sighting, SightingBoard, UpstreamPlace

RATIO, FLOOR, BURST, MAX_ATTEMPTS = 0.1, 1.0, 100.0, 3
DEADLINE_SECONDS = 30.0
WARM_UP_SECONDS = 150.0
"""Fills the buckets at every rate: the bound starts from a full bucket."""
ANSWER_SECONDS, REFUSAL_SECONDS = 0.4, 0.01
SCALE_AFTER_SECONDS = 5.0
RENEWAL_SECONDS = 0.005


@dataclass
class Replica:
    """One llm-proxy."""

    name: str
    bucket: RetryBucket
    breakers: dict[str, Breaker]
    sequence: int = 0
    held: HeldShare | None = None


@dataclass
class Counts:
    """What happened to requests that came in the outage, and around its end."""

    requests: int = 0
    attempts: int = 0
    errors: int = 0
    arrivals_after: int = 0
    attempts_after: int = 0
    last_error_at: float = 0.0


@dataclass
class Simulation:
    """One outage."""

    rate: float
    outage_seconds: float
    replicas: int
    replicas_after: int
    upstreams: tuple[str, ...]
    down: frozenset[str]
    with_breaker: bool
    draw: random.Random
    now: float = 0.0
    counts: Counts = field(default_factory=Counts)
    fleet: list[Replica] = field(default_factory=list)
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.start, self.end = WARM_UP_SECONDS, WARM_UP_SECONDS + self.outage_seconds
        self.book = ShareBook(Share(FLOOR, BURST), ShareTerms(), epoch=1, now=0.0, quarantine_seconds=0.0)
        self.board = SightingBoard(ShareTerms().lease_seconds)
        self.backoff = Backoff(random=self.draw.random)

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), what))

    def run(self) -> Counts:
        for _ in range(self.replicas):
            self.add_replica()
        for number in range(self.replicas_after - self.replicas):
            self.at(self.start + SCALE_AFTER_SECONDS + 0.5 * number, self.add_replica)
        self.at(0.0, self.arrive)
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            what()
        return self.counts

    def add_replica(self) -> None:
        breakers = {name: Breaker() for name in self.upstreams}
        bucket = RetryBucket(ratio=RATIO, now=self.now)
        replica = Replica(f"r{len(self.fleet)}", bucket, breakers)
        self.fleet.append(replica)
        self.renew(replica)

    def renew(self, replica: Replica) -> None:
        if self.now > self.end + 10:
            return
        replica.sequence += 1
        grant = self.book.renew(ShareRequest(replica.name, replica.sequence, replica.held), self.now)
        assert grant is not None
        self.tell(replica)
        replica.held = HeldShare(grant.serial, grant.share)
        expires_at = self.now + grant.lease_seconds
        share = BucketShare(grant.share.floor_tokens_per_second, grant.share.cap_tokens, expires_at)
        self.at(self.now + RENEWAL_SECONDS, lambda: replica.bucket.apply_share(share, self.now))
        self.at(self.now + grant.renew_after_seconds, lambda: self.renew(replica))

    def tell(self, replica: Replica) -> None:
        sightings = [
            Sighting(UpstreamPlace(name, ""), is_down=breaker.state(self.now) is not BreakerState.CLOSED)
            for name, breaker in replica.breakers.items()
            if breaker.has_seen(self.now)
        ]
        self.board.note(replica.name, sightings, self.now)
        for place in self.board.down_for(replica.name, self.now):
            replica.breakers[place.name].open_as_told(self.now)

    def arrive(self) -> None:
        if self.now > self.end + 10:
            return
        self.at(self.now + self.draw.expovariate(self.rate), self.arrive)
        in_outage = self.start <= self.now < self.end
        self.counts.requests += in_outage
        self.counts.arrivals_after += self.end <= self.now < self.end + 1
        ledger = AttemptLedger(max_attempts=MAX_ATTEMPTS, deadline=self.now + DEADLINE_SECONDS)
        self.go_on(self.draw.choice(self.fleet), ledger, in_outage=in_outage)

    def go_on(self, replica: Replica, ledger: AttemptLedger, *, in_outage: bool) -> None:
        views = [
            UpstreamView(name, breaker.offer(self.now) if self.with_breaker else Admission.PASS)
            for name, breaker in replica.breakers.items()
        ]
        plan = plan_next_attempt(
            ledger, views, tokens=replica.bucket.tokens(self.now), backoff=self.backoff, now=self.now
        )
        if isinstance(plan, Stop):
            self.fail(in_outage=in_outage)
            return

        def send() -> None:
            if plan.weight and not replica.bucket.try_withdraw(plan.weight, self.now):
                self.fail(in_outage=in_outage)
                return
            self.send(replica, ledger, plan.upstream, plan.kind, in_outage=in_outage)

        self.at(self.now + plan.wait_seconds, send)

    def fail(self, *, in_outage: bool) -> None:
        self.counts.errors += in_outage
        self.counts.last_error_at = self.now

    def send(
        self, replica: Replica, ledger: AttemptLedger, upstream: str, kind: AttemptKind, *, in_outage: bool
    ) -> None:
        breaker = replica.breakers[upstream]
        permit = breaker.admit(self.now, first=kind is AttemptKind.FIRST)
        if self.with_breaker and permit is None:
            self.go_on(replica, ledger, in_outage=in_outage)
            return
        self.counts.attempts += self.start <= self.now < self.end
        self.counts.attempts_after += self.end <= self.now < self.end + 1
        is_down = upstream in self.down
        refused = is_down and self.start <= self.now < self.end
        # What is under way when the outage begins is reset.
        is_reset = is_down and self.now < self.start <= self.now + ANSWER_SECONDS
        outcome = Outcome.UPSTREAM_ERROR if refused or is_reset else Outcome.OK
        seconds = REFUSAL_SECONDS if refused else self.start - self.now if is_reset else ANSWER_SECONDS

        def end() -> None:
            rule = rule_for(outcome, request_sent=not refused)
            if permit is not None:
                others = [other for name, other in replica.breakers.items() if name != upstream]
                breaker.record(
                    permit,
                    rule.verdict,
                    self.now,
                    alternative=any(other.offer(self.now) is Admission.PASS for other in others),
                    tokens=replica.bucket.tokens(self.now),
                    weight=rule.weight,
                )
            if rule.deposits:
                replica.bucket.deposit_success(self.now)
            if rule.again:
                ended = EndedAttempt(upstream, kind, outcome)
                self.go_on(replica, ledger.with_attempt(ended), in_outage=in_outage)

        self.at(self.now + seconds, end)


def simulate(
    rate: float, outage: float, fleet: tuple[int, int], *, failover: bool, breaker: bool, seed: int
) -> Counts:
    upstreams = ("primary", "secondary") if failover else ("primary",)
    return Simulation(
        rate,
        outage,
        *fleet,
        upstreams=upstreams,
        down=frozenset({"primary"}),
        with_breaker=breaker,
        draw=random.Random(seed),
    ).run()


def fleet_name(fleet: tuple[int, int]) -> str:
    return str(fleet[0]) if fleet[0] == fleet[1] else f"{fleet[0]}→{fleet[1]}"


def full_outage_table(seeds: int) -> list[str]:
    lines = [
        "| requests/s | outage s | replicas | requests | bound | bucket alone | first second after"
        " | with breaker | last error after |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for rate, outage, fleet in itertools.product((1, 10, 35, 100), (60, 10), FLEETS):
        alone = [
            simulate(rate, outage, fleet, failover=False, breaker=False, seed=seed) for seed in range(seeds)
        ]
        both = [
            simulate(rate, outage, fleet, failover=False, breaker=True, seed=seed) for seed in range(seeds)
        ]
        bounds = [1 + (BURST + FLOOR * outage) / count.requests for count in alone]
        worst = max(range(seeds), key=lambda seed: alone[seed].attempts / alone[seed].requests)
        for seed, count in enumerate(alone):
            assert count.attempts <= count.requests + BURST + FLOOR * outage + 1, (rate, outage, fleet, seed)
        after = [run.attempts_after / max(1, run.arrivals_after) for run in alone]
        lines.append(
            f"| {rate} | {outage} | {fleet_name(fleet)} | {alone[worst].requests} | {bounds[worst]:.3f}"
            f" | {alone[worst].attempts / alone[worst].requests:.3f} | {max(after):.2f}"
            f" | {max(run.attempts / run.requests for run in both):.3f}"
            f" | {max(run.last_error_at - WARM_UP_SECONDS - outage for run in both):.1f} s |"
        )
    return lines


def failover_table(seeds: int) -> list[str]:
    lines = [
        "| requests/s | replicas | requests | client errors | attempts per request |",
        "|---|---|---|---|---|",
    ]
    for rate, fleet in itertools.product((1, 10, 35, 100), FLEETS):
        runs = [simulate(rate, 60, fleet, failover=True, breaker=True, seed=seed) for seed in range(seeds)]
        requests = sum(run.requests for run in runs)
        lines.append(
            f"| {rate} | {fleet_name(fleet)} | {requests} | {sum(run.errors for run in runs)}"
            f" | {sum(run.attempts for run in runs) / requests:.3f} |"
        )
    return lines


FLEETS = ((1, 1), (2, 2), (4, 4), (8, 8), (1, 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    text = "\n".join(
        [
            "# Retries in an outage, simulated",
            "",
            f"{datetime.now(UTC).date()}, `python benchmarks/retry_simulation.py --seeds {arguments.seeds}`:"
            f" ratio {RATIO}, floor {FLOOR}/s,"
            f" burst {BURST:.0f}, at most {MAX_ATTEMPTS} attempts; worst of the seeds. Fixed retries would give"
            f" {MAX_ATTEMPTS}.000 here, and 4.000 with the usual three.",
            "",
            "## Everything down",
            "",
            "Attempts per client request. The bound is 1 + (burst + floor x outage) / requests, with no allowance"
            " for propagation. `First second after`: attempts per arrival. With the breaker most first attempts"
            " are not sent at all (the SLM or a 503 answers); `last error after` is how long past the outage that"
            " goes on, until a probe has passed in every replica.",
            "",
            *full_outage_table(arguments.seeds),
            "",
            "## Primary down for 60 s, secondary up",
            "",
            "A replica that starts has no token: where no other has opened its breaker yet (1 request/s, 1→8),"
            " its first failure is a client error.",
            "",
            *failover_table(arguments.seeds),
            "",
        ]
    )
    if arguments.output:
        arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
