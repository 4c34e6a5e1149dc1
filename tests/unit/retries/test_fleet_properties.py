"""The retry budget's bound, for every interval, per replica incarnation and for the fleet, on a virtual clock.

A keeper and its replicas exchange share leases over a network that delays, reorders and drops; replicas join,
crash, stop and go on (SIGSTOP); the keeper restarts and forgets; the route's totals are edited.

`extra(t1, t2) <= tokens(t1) + floor(t1, t2) + ratio * successes(t1, t2)` for all t1 <= t2 is the same as
`D(t2) <= min over t1 of (D(t1) + tokens(t1))` with `D = extra - floor - ratio * successes` counted from the
start, so one running minimum checks every interval.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hybridroute_serve.retries.bucket import BucketShare, RetryBucket
from hybridroute_serve.retries.shares import (
    HeldShare,
    Share,
    ShareBook,
    ShareGrant,
    ShareRequest,
    ShareTerms,
)

RATIO = 0.1
TERMS = ShareTerms()
LEASE_AND_MARGIN_SECONDS = TERMS.lease_seconds + TERMS.margin_seconds
ROUNDING = 1e-6
TOTALS = (Share(1.0, 100.0), Share(4.0, 10.0), Share(0.0, 30.0), Share(1.0, 1.5))

seconds = st.sampled_from((0.3, 1.0, 4.0, 9.99, 11.0, 30.0))
any_index = st.integers(min_value=0, max_value=1_000)


class Fate(Enum):
    """What the network does with a request and its answer."""

    ANSWERED = "answered"
    ANSWER_LOST = "answer_lost"
    ANSWER_LATE = "answer_late"
    REQUEST_LATE = "request_late"


@dataclass
class Interval:
    """The bound over every interval of one budget's life."""

    drift: float = 0.0
    least: float = math.inf

    def look(self, tokens: float) -> None:
        assert self.drift <= self.least + ROUNDING
        self.least = min(self.least, self.drift + tokens)


@dataclass
class Replica:
    name: str
    clock_offset: float
    bucket: RetryBucket
    sequence: int = 0
    awaited: int | None = None
    sent_at: float = 0.0
    held: HeldShare | None = None
    expires_at: float = 0.0
    stopped: bool = False
    interval: Interval = field(default_factory=Interval)

    def floor_over(self, start: float, end: float) -> float:
        if self.held is None:
            return 0.0
        lasted = max(0.0, min(end, self.expires_at) - start)
        return self.held.share.floor_tokens_per_second * lasted


class Fleet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.totals_since: list[tuple[float, Share]] = [(self.now, TOTALS[0])]
        self.epoch = 1
        self.book = self.new_book(0.0)
        self.replicas: list[Replica] = []
        self.born = 0
        self.requests: list[ShareRequest] = []
        self.answers: list[tuple[str, int, ShareGrant]] = []
        self.interval = Interval()
        self.calm_steps = 0

    @initialize(replicas=st.integers(1, 4))
    def start(self, replicas: int) -> None:
        for _ in range(replicas):
            self.replica_joins(0.0)
        for _ in range(3):
            self.everybody_renews()

    def disrupt(self) -> bool:
        """Leave a few ordinary steps between disruptions, or nobody ever holds anything."""
        if self.calm_steps < 4:
            return False
        self.calm_steps = 0
        return True

    def new_book(self, quarantine_seconds: float) -> ShareBook:
        return ShareBook(
            self.totals_since[-1][1],
            TERMS,
            epoch=self.epoch,
            now=self.now,
            quarantine_seconds=quarantine_seconds,
        )

    def allowed(self) -> Share:
        """The largest totals within the propagation delay: a cut takes that long to reach everybody."""
        most = self.totals_since[-1][1]
        for (_, totals), (until, _) in zip(self.totals_since, self.totals_since[1:], strict=False):
            if until + LEASE_AND_MARGIN_SECONDS >= self.now:
                most = most.most(totals)
        return most

    def awake(self, index: int) -> Replica | None:
        replicas = [replica for replica in self.replicas if not replica.stopped]
        return replicas[index % len(replicas)] if replicas else None

    @rule(elapsed=seconds)
    def time_passes(self, elapsed: float) -> None:
        self.calm_steps += 1
        for replica in self.replicas:
            floor = replica.floor_over(self.now, self.now + elapsed)
            replica.interval.drift -= floor
            self.interval.drift -= floor
        self.now += elapsed

    @rule(clock_offset=st.sampled_from((0.0, -900.0, 1e6)))
    def replica_joins(self, clock_offset: float) -> None:
        if len(self.replicas) == 8:
            return
        self.born += 1
        bucket = RetryBucket(ratio=RATIO, now=self.now + clock_offset)
        self.replicas.append(Replica(f"r{self.born}", clock_offset, bucket))

    @rule(index=any_index)
    def replica_crashes(self, index: int) -> None:
        if self.replicas and self.disrupt():
            self.replicas.pop(index % len(self.replicas))

    @rule(index=any_index)
    def replica_leaves(self, index: int) -> None:
        replica = self.awake(index)
        if replica is not None and self.disrupt():
            self.replicas.remove(replica)
            self.book.leave(replica.name)

    @rule(index=any_index)
    def replica_is_stopped_or_goes_on(self, index: int) -> None:
        if self.replicas and self.disrupt():
            replica = self.replicas[index % len(self.replicas)]
            replica.stopped = not replica.stopped

    @rule(index=any_index, fate=st.sampled_from(Fate))
    def replica_renews(self, index: int, fate: Fate) -> None:
        self.calm_steps += 1
        replica = self.awake(index)
        if replica is None:
            return
        replica.sequence += 1
        replica.awaited = replica.sequence
        replica.sent_at = self.now
        held = replica.held if self.now < replica.expires_at else None
        request = ShareRequest(replica.name, replica.sequence, held)
        if fate is Fate.REQUEST_LATE:
            self.requests.append(request)
        else:
            self.keeper_answers(request, fate)

    def keeper_answers(self, request: ShareRequest, fate: Fate) -> None:
        grant = self.book.renew(request, self.now)
        if grant is None or fate is Fate.ANSWER_LOST:
            return
        self.answers.append((request.replica, request.sequence, grant))
        if fate is Fate.ANSWERED:
            self.answer_arrives(-1)

    @rule(index=any_index, fate=st.sampled_from(Fate))
    def late_request_arrives(self, index: int, fate: Fate) -> None:
        if self.requests:
            self.keeper_answers(self.requests.pop(index % len(self.requests)), fate)

    @rule(index=any_index)
    def answer_arrives(self, index: int) -> None:
        if not self.answers:
            return
        name, sequence, grant = self.answers.pop(index % len(self.answers))
        for replica in self.replicas:
            if replica.name == name and replica.awaited == sequence and not replica.stopped:
                replica.awaited = None
                replica.held = HeldShare(grant.serial, grant.share)
                replica.expires_at = replica.sent_at + grant.lease_seconds
                share = BucketShare(
                    grant.share.floor_tokens_per_second,
                    grant.share.cap_tokens,
                    replica.expires_at + replica.clock_offset,
                )
                replica.bucket.apply_share(share, self.now + replica.clock_offset)

    @rule()
    def everybody_renews(self) -> None:
        """What a quiet network does."""
        for index in range(len(self.replicas)):
            self.replica_renews(index, Fate.ANSWERED)

    @rule()
    def keeper_restarts(self) -> None:
        if not self.disrupt():
            return
        self.epoch += 1
        self.book = self.new_book(LEASE_AND_MARGIN_SECONDS)

    @rule(totals=st.sampled_from(TOTALS))
    def totals_are_edited(self, totals: Share) -> None:
        if not self.disrupt():
            return
        self.totals_since.append((self.now, totals))
        self.book.change_totals(totals)

    @rule(index=any_index, count=st.integers(1, 60))
    def attempts_get_through(self, index: int, count: int) -> None:
        replica = self.awake(index)
        if replica is None:
            return
        for _ in range(count):
            replica.bucket.deposit_success(self.now + replica.clock_offset)
        replica.interval.drift -= RATIO * count
        self.interval.drift -= RATIO * count

    @rule(index=any_index, weight=st.sampled_from((1.0, 2.0)), count=st.integers(1, 120))
    def extra_attempts_are_wanted(self, index: int, weight: float, count: int) -> None:
        replica = self.awake(index)
        if replica is None:
            return
        for _ in range(count):
            if replica.bucket.try_withdraw(weight, self.now + replica.clock_offset):
                replica.interval.drift += weight
                self.interval.drift += weight

    @invariant()
    def every_interval_is_bounded(self) -> None:
        fleet_tokens = 0.0
        for replica in self.replicas:
            tokens = replica.bucket.tokens(self.now + replica.clock_offset)
            replica.interval.look(tokens)
            fleet_tokens += tokens
        self.interval.look(fleet_tokens)
        assert fleet_tokens <= self.allowed().cap_tokens + ROUNDING

    @invariant()
    def shares_add_up_to_no_more_than_the_route_has(self) -> None:
        held = [
            replica.held.share for replica in self.replicas if replica.held and self.now < replica.expires_at
        ]
        allowed = self.allowed()
        floors = sum(share.floor_tokens_per_second for share in held)
        assert floors <= allowed.floor_tokens_per_second + ROUNDING
        assert sum(share.cap_tokens for share in held) <= allowed.cap_tokens + ROUNDING


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize("seed", range(60))
def test_long_random_walks(seed: int) -> None:
    """Deeper than the search above goes: the same rules, drawn by weight, 400 steps a walk."""
    draw = random.Random(seed)
    fleet = Fleet()
    fleet.start(draw.randint(1, 4))
    steps: list[tuple[int, Callable[[], None]]] = [
        (6, lambda: fleet.time_passes(draw.choice((0.05, 0.3, 1.0, 4.0, 9.99)))),
        (8, lambda: fleet.replica_renews(draw.randrange(1000), draw.choice(list(Fate)))),
        (3, lambda: fleet.late_request_arrives(draw.randrange(1000), draw.choice(list(Fate)))),
        (3, lambda: fleet.answer_arrives(draw.randrange(1000))),
        (2, fleet.everybody_renews),
        (4, lambda: fleet.attempts_get_through(draw.randrange(1000), draw.randint(1, 60))),
        (4, lambda: fleet.extra_attempts_are_wanted(draw.randrange(1000), draw.choice((1.0, 2.0)), 50)),
        (1, lambda: fleet.replica_joins(draw.choice((0.0, -900.0, 1e6)))),
        (1, lambda: fleet.replica_crashes(draw.randrange(1000))),
        (1, lambda: fleet.replica_is_stopped_or_goes_on(draw.randrange(1000))),
        (1, lambda: fleet.totals_are_edited(draw.choice(TOTALS))),
        (1, fleet.keeper_restarts),
    ]
    weights = [weight for weight, _ in steps]
    for _ in range(400):
        draw.choices([step for _, step in steps], weights)[0]()
        fleet.every_interval_is_bounded()
        fleet.shares_add_up_to_no_more_than_the_route_has()
