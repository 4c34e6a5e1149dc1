"""A keeper, its store, replicas and an upstream that bills, on a virtual clock, with everything that can go wrong.

Each method is one step. Steps check what the ledger promises as they go; `check` holds between any two.
Truth is what the upstream has billed, counted here and nowhere else.
"""

import random
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from hybridroute_api.windows import parse_window
from hybridroute_serve.budgets.accounts import AccountTerms
from hybridroute_serve.budgets.expiry import Expiries, HoldTerms
from hybridroute_serve.budgets.journalled import (
    JournalledLedger,
    Operation,
    create_ledger,
    decode_ledger,
    open_ledger,
)
from hybridroute_serve.budgets.lease_account import Hold, LeaseAccount, hold_from_all, settle_all
from hybridroute_serve.budgets.ledger import (
    Claim,
    Denied,
    LeaseAnswer,
    LeaseCall,
    LeaseOutcome,
    LedgerState,
    Reserved,
    age_lost_past,
    change_terms,
    close_lease,
    lease,
    reclaim_lease,
    reserve,
    settle,
    standing,
)
from hybridroute_serve.budgets.store import (
    FencedError,
    Held,
    LedgerStore,
    StoreExistsError,
    StoreMissingError,
)

_T = TypeVar("_T")

ROUTE, CLIENT = "route", "client:a"
HOLD_TERMS = HoldTerms(lease_seconds=120.0, longest_request_seconds=60.0, clock_skew_seconds=10.0)
START = 1_761_400_000.0
"""In October 2025, half a day before Berlin's clocks go back."""


def drive(steps: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never really waits."""
    try:
        steps.send(None)
    except StopIteration as end:
        answer: _T = end.value
        return answer
    raise AssertionError("it waits for something")


class StoreTroubleError(Exception):
    """The disk failed, before or after it wrote."""


class KeeperDownError(Exception):
    """Nobody answers."""


class WorldStore(LedgerStore, Protocol):
    """A store that a world can look into, break and lose."""

    @property
    def held(self) -> Held | None: ...
    @held.setter
    def held(self, nothing: None) -> None: ...
    @property
    def fails(self) -> str | None: ...
    @fails.setter
    def fails(self, when: str | None) -> None: ...


class MemoryStore:
    """`LedgerStore` with failures on order, which looks at every document that is stored."""

    def __init__(self) -> None:
        self.held: Held | None = None
        self.fails: str | None = None

    def read(self) -> Held:
        if self.held is None:
            raise StoreMissingError
        return self.held

    async def create(self, document: bytes) -> None:
        if self.held is not None:
            raise StoreExistsError
        self.held = Held(0, 0, document)

    async def acquire(self) -> Held:
        held = self.read()
        self.held = Held(held.epoch + 1, held.version, held.document)
        return self.held

    async def load(self, epoch: int) -> Held:
        held = self.read()
        if held.epoch != epoch:
            raise FencedError
        return held

    async def save(self, held: Held, document: bytes) -> Held:
        stored = self.read()
        if (stored.epoch, stored.version) != (held.epoch, held.version):
            raise FencedError
        fails, self.fails = self.fails, None
        if fails == "before":
            raise StoreTroubleError
        check_journal_point(decode_ledger(stored.document), decode_ledger(document))
        self.held = Held(held.epoch, held.version + 1, document)
        if fails == "after":
            raise StoreTroubleError
        return self.held


def committed(state: LedgerState, name: str) -> int:
    """Settled + open reservations + leases not returned, counted from scratch."""
    return (
        sum(state.accounts[name].settled.values())
        + sum(held.nano_usd for held in state.reservations.values() if name in held.accounts)
        + sum(
            max(0, lent.granted_nano_usd - lent.settled_nano_usd - lent.returned_nano_usd)
            for lent in state.leases.values()
            if lent.account == name
        )
    )


def check_journal_point(before: LedgerState, after: LedgerState) -> None:
    """Nothing is granted past the limit at that time, and windows go forward."""
    for name, account in after.accounts.items():
        known = before.accounts.get(name)
        was = committed(before, name) if known is not None else 0
        assert committed(after, name) <= max(account.terms.limit_nano_usd, was)
        if known is not None and known.terms.window == account.terms.window:
            assert account.window_id >= known.window_id
    for lent in after.leases.values():
        assert lent.granted_nano_usd >= 0
        assert lent.account in after.accounts


@dataclass
class Attempt:
    """One paid call, from its reservation to its bill."""

    attempt_id: str
    accounts: tuple[str, ...]
    bound: int
    actual: int
    valid_until: float
    holds: tuple[Hold, ...] | None
    """None: reserved at the keeper."""
    sent_at: float | None = None
    billed: bool = False


@dataclass
class Replica:
    """One process that sends attempts."""

    name: str
    clock_offset: float
    accounts: dict[str, LeaseAccount]
    stopped: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    ended: list[tuple[str, int | None]] = field(default_factory=list)
    """Reservations at the keeper that are over, not yet reported."""
    lease_sums: dict[str, int] = field(default_factory=dict)
    """What its journal says was settled, by lease."""


@dataclass
class Keeper:
    """The process that holds the epoch, or believes so."""

    ledger: JournalledLedger
    expiries: Expiries
    started_at: float


class World:
    """Everything, and what has truly been billed."""

    def __init__(
        self,
        limit: int = 10_000,
        window: str = "60m",
        *,
        client_limit: int = 4_000,
        store: "WorldStore | None" = None,
    ) -> None:
        self.now = 50_000.0
        self.wall_step = 0.0
        self.terms = {ROUTE: AccountTerms(limit, window), CLIENT: AccountTerms(client_limit, window)}
        self.store = store or MemoryStore()
        self.lives = 1
        drive(create_ledger(self.store, self.terms, self.wall, life="L1"))
        self.keeper: Keeper | None = self.start_keeper()
        self.replaced: list[Keeper] = []
        self.replicas: list[Replica] = []
        self.orphans: list[Attempt] = []
        """Sent by replicas that died; the upstream bills them all the same."""
        self.dead: list[Replica] = []
        self.late_calls: list[tuple[Replica, LeaseCall]] = []
        self.late_answers: list[tuple[Replica, LeaseAnswer, LeaseCall]] = []
        self.billed: dict[str, dict[int, int]] = {name: {} for name in self.terms}
        self.lost_past: set[str] = set()
        self.seen = self.stored()
        self.born = self.attempts_made = self.bills = self.denials = 0

    # -- clocks and truth

    @property
    def wall(self) -> float:
        """What the keeper's wall clock shows."""
        return START + self.now - 50_000.0 + self.wall_step

    def stored(self) -> LedgerState | None:
        """The durable state."""
        return decode_ledger(self.store.held.document) if self.store.held is not None else None

    def truly_billed(self, state: LedgerState, name: str) -> int:
        """What the upstream has billed in the window ids that count."""
        account = state.accounts[name]
        oldest = account.window_id - parse_window(account.terms.window).counted_ids + 1
        return sum(nano_usd for key, nano_usd in self.billed[name].items() if key >= oldest)

    def check(self) -> None:
        """What was billed is settled or held, whatever happened."""
        state = self.stored()
        if state is None:
            return
        if self.seen is None:
            # Bills since the store was lost: nobody knows of them, and nothing is granted while they count.
            for name, account in state.accounts.items():
                self.billed[name] = {account.window_id: sum(self.billed[name].values())}
        self.follow_windows(state)
        for name in self.terms:
            if not state.accounts[name].past_unknown:
                self.lost_past.discard(name)
            if name not in self.lost_past:
                assert self.truly_billed(state, name) <= committed(state, name), name

    def follow_windows(self, state: LedgerState) -> None:
        """Number the bills as the ledger does, when its window has become another kind."""
        before, self.seen = self.seen, state
        for name, account in state.accounts.items():
            if before is None or before.accounts[name].terms.window == account.terms.window:
                continue
            turned = replace(before, accounts={name: before.accounts[name].turned(self.wall)})
            self.billed[name] = {account.window_id: self.truly_billed(turned, name)}

    def bill(self, attempt: Attempt) -> None:
        """The upstream bills."""
        assert attempt.sent_at is not None
        assert not attempt.billed
        attempt.billed = True
        self.bills += 1
        state = self.stored()
        for name in attempt.accounts:
            key = state.accounts[name].window_id if state is not None else -1
            self.billed[name][key] = self.billed[name].get(key, 0) + attempt.actual

    # -- time

    def time_passes(self, seconds: float) -> None:
        """Virtual time; no attempt lasts longer than the longest request."""
        self.now += seconds
        for attempt in [*self.orphans, *(each for replica in self.replicas for each in replica.attempts)]:
            is_over = attempt.sent_at is not None and self.now >= (
                attempt.sent_at + HOLD_TERMS.longest_request_seconds
            )
            if is_over and not attempt.billed:
                self.bill(attempt)

    def wall_clock_steps(self, seconds: float) -> None:
        """Someone sets the keeper's wall clock."""
        self.wall_step += seconds

    # -- the keeper

    def start_keeper(self) -> Keeper:
        self.lives += 1
        ledger = drive(open_ledger(self.store, self.terms, self.wall, life=f"L{self.lives}"))
        held = [*ledger.state.leases, *ledger.state.reservations]
        return Keeper(ledger, Expiries(HOLD_TERMS, held, self.now), self.now)

    def keeper_crashes(self) -> None:
        self.keeper = None

    def keeper_starts(self) -> None:
        """A new keeper takes over, whether or not the old one is gone."""
        if self.keeper is not None:
            self.replaced.append(self.keeper)
        if self.store.held is None:
            self.lost_past.update(self.terms)
        try:
            self.keeper = self.start_keeper()
        except StoreTroubleError:
            self.keeper = None

    def replaced_keeper_tries(self) -> None:
        """It cannot grant anything any more."""
        if not self.replaced or self.store.held is None:
            return
        before = self.store.held
        claim = Claim(f"zombie-{self.now}", "z", (ROUTE,), 1)
        try:
            answers = drive(self.replaced[-1].ledger.commit([lambda state: reserve(state, claim, self.wall)]))
        except FencedError:
            pass
        else:
            assert isinstance(answers[0], Denied)
        assert self.store.held == before

    def store_fails(self, when: str) -> None:
        """The next save fails, before or after it wrote."""
        self.store.fails = when

    def store_is_lost(self) -> None:
        """The file is deleted, and the keeper with it."""
        self.store.held = None
        self.keeper = None
        self.replaced.clear()
        self.seen = None
        self.billed = {name: {} for name in self.terms}

    def limits_change(self, limit: int, client_limit: int) -> None:
        self.change_terms_to({ROUTE: limit, CLIENT: client_limit}, self.terms[ROUTE].window)

    def window_changes(self, window: str) -> None:
        limits = {name: terms.limit_nano_usd for name, terms in self.terms.items()}
        self.change_terms_to(limits, window)

    def change_terms_to(self, limits: dict[str, int], window: str) -> None:
        terms = {name: AccountTerms(limit, window) for name, limit in limits.items()}
        try:
            self.ask(lambda state: (change_terms(state, terms, self.wall), None))
        except KeeperDownError:
            return
        self.terms = terms

    def keeper_sweeps(self) -> None:
        """End what has been silent too long; open accounts whose lost past is over."""
        keeper = self.keeper
        if keeper is None:
            return
        for key in keeper.expiries.due(self.now):
            try:
                self.ask(self.end_silent(key))
            except KeeperDownError:
                return
            keeper.expiries.forget(key)
        if self.now >= keeper.started_at + HOLD_TERMS.silence_seconds:
            try:
                self.ask(lambda state: (age_lost_past(state, self.wall), None))
            except KeeperDownError:
                return

    def end_silent(self, key: str) -> Operation:
        def end(state: LedgerState) -> tuple[LedgerState, Any]:
            if key in state.leases:
                return reclaim_lease(state, key, self.wall), None
            return settle(state, key, None, self.wall)

        return end

    def close(self, lease_id: str, total: int) -> Operation:
        return lambda state: (close_lease(state, lease_id, total, self.wall), None)

    def journals_of_the_dead_are_read(self) -> None:
        """Every attempt that a dead replica opened is known, so its leases end with an exact sum."""
        for replica in list(self.dead):
            try:
                for account in replica.accounts.values():
                    if account.lease_id is not None:
                        total = replica.lease_sums.get(account.lease_id, 0)
                        self.ask(self.close(account.lease_id, total))
            except KeeperDownError:
                return
            self.dead.remove(replica)

    def ask(self, operation: Operation) -> Any:
        """Send the keeper one operation; nothing comes back unless it was stored."""
        if self.keeper is None:
            raise KeeperDownError
        try:
            return drive(self.keeper.ledger.commit([operation]))[0]
        except (StoreTroubleError, StoreMissingError) as error:
            raise KeeperDownError from error

    # -- replicas

    def replica_joins(self, clock_offset: float = 0.0) -> None:
        if len(self.replicas) >= 4:
            return
        self.born += 1
        name = f"r{self.born}"
        accounts = {
            account: LeaseAccount(replica=name, account=account, lease_seconds=HOLD_TERMS.lease_seconds)
            for account in (ROUTE, CLIENT)
        }
        self.replicas.append(Replica(name, clock_offset, accounts))

    def pick(self, index: int) -> Replica | None:
        awake = [replica for replica in self.replicas if not replica.stopped]
        return awake[index % len(awake)] if awake else None

    def replica_is_stopped_or_goes_on(self, index: int) -> None:
        if self.replicas:
            replica = self.replicas[index % len(self.replicas)]
            replica.stopped = not replica.stopped

    def replica_is_killed(self, index: int) -> None:
        """kill -9: what was sent is billed, what was held is in its journal."""
        if not self.replicas:
            return
        replica = self.replicas.pop(index % len(self.replicas))
        for attempt in replica.attempts:
            if attempt.sent_at is not None and not attempt.billed:
                self.orphans.append(attempt)
            for hold in attempt.holds or ():
                replica.lease_sums[hold.lease_id] = replica.lease_sums.get(hold.lease_id, 0) + hold.nano_usd
        self.dead.append(replica)

    def replica_leaves(self, index: int) -> None:
        """It has finished everything and says so."""
        replica = self.pick(index)
        if replica is None or replica.attempts:
            return
        self.replicas.remove(replica)
        for account in replica.accounts.values():
            if account.lease_id is not None:
                try:
                    self.ask(self.close(account.lease_id, account.final_settled_nano_usd()))
                except KeeperDownError:
                    return

    def replica_calls(self, index: int, name: str, fate: str, needed: int = 0) -> LeaseAnswer | None:
        """Report on a lease and ask for more; the call or its answer may be lost or late."""
        replica = self.pick(index)
        if replica is None:
            return None
        account = replica.accounts[name]
        clock = self.now + replica.clock_offset
        call = account.call(clock, needed_nano_usd=needed)
        if fate == "call_late":
            self.late_calls.append((replica, call))
            return None
        return self.deliver_call(replica, call, fate)

    def deliver_call(self, replica: Replica, call: LeaseCall, fate: str) -> LeaseAnswer | None:
        account = replica.accounts[call.account]
        try:
            answer: LeaseAnswer = self.ask(lambda state: lease(state, call, self.wall))
        except KeeperDownError:
            account.call_failed(call)
            return None
        assert self.keeper is not None
        if answer.lease_id is not None and answer.outcome is not LeaseOutcome.CLOSED:
            self.keeper.expiries.heard(answer.lease_id, self.now)
        if answer.denied is not None:
            self.check_denial(answer.denied)
        if fate == "answered" and replica in self.replicas and not replica.stopped:
            account.apply(answer, call)
            return answer
        if fate == "answer_late":
            self.late_answers.append((replica, answer, call))
        else:
            account.call_failed(call)
        return None

    def late_call_arrives(self, index: int, fate: str) -> None:
        if self.late_calls:
            replica, call = self.late_calls.pop(index % len(self.late_calls))
            self.deliver_call(replica, call, fate)

    def late_answer_arrives(self, index: int) -> None:
        if self.late_answers:
            replica, answer, call = self.late_answers.pop(index % len(self.late_answers))
            if replica in self.replicas and not replica.stopped:
                replica.accounts[call.account].apply(answer, call)

    def check_denial(self, denied: Denied) -> None:
        """Denied only if spent + reserved + its own bound > limit, or nobody knows what was spent."""
        self.denials += 1
        spent_and_reserved = denied.settled_nano_usd + denied.reserved_nano_usd
        assert denied.past_unknown or spent_and_reserved + denied.asked_nano_usd > denied.limit_nano_usd
        state = self.stored()
        assert state is not None
        now = standing(state, denied.account, self.wall)
        assert (now.settled_nano_usd, now.reserved_nano_usd) == (
            denied.settled_nano_usd,
            denied.reserved_nano_usd,
        )

    def wants_attempt(self, index: int, bound: int, actual: int, *, client: bool, fate: str) -> bool:
        """A request comes: hold its bound from leases, or reserve it at the keeper, or be denied."""
        replica = self.pick(index)
        if replica is None:
            return False
        names = (ROUTE, CLIENT) if client else (ROUTE,)
        accounts = [replica.accounts[name] for name in names]
        clock = self.now + replica.clock_offset
        self.attempts_made += 1
        attempt_id = f"{replica.name}/{self.attempts_made}"
        holds = hold_from_all(accounts, bound, clock)
        if holds is None:
            at = [other for other in self.replicas if not other.stopped].index(replica)
            for name in names:
                answer = self.replica_calls(at, name, fate, needed=bound)
                if answer is None or answer.outcome is LeaseOutcome.EXHAUSTED:
                    return False
            holds = hold_from_all(accounts, bound, clock)
        if holds is None:
            return self.reserve_at_keeper(replica, attempt_id, names, bound, actual)
        valid_until = min(hold.valid_until for hold in holds)
        replica.attempts.append(Attempt(attempt_id, names, bound, actual, valid_until, holds))
        return True

    def reserve_at_keeper(
        self, replica: Replica, attempt_id: str, names: tuple[str, ...], bound: int, actual: int
    ) -> bool:
        claim = Claim(attempt_id, replica.name, names, bound)
        try:
            answer = self.ask(lambda state: reserve(state, claim, self.wall))
        except KeeperDownError:
            return False
        if isinstance(answer, Denied):
            self.check_denial(answer)
            return False
        assert answer == Reserved(bound)
        assert self.keeper is not None
        self.keeper.expiries.heard(attempt_id, self.now)
        valid_until = self.now + replica.clock_offset + HOLD_TERMS.lease_seconds
        replica.attempts.append(Attempt(attempt_id, names, bound, actual, valid_until, None))
        return True

    def attempt_is_sent(self, index: int) -> None:
        """Too late after `valid_until`: then it is given up."""
        replica = self.pick(index)
        waiting = [attempt for attempt in replica.attempts if attempt.sent_at is None] if replica else []
        if replica is None or not waiting:
            return
        attempt = waiting[index % len(waiting)]
        if self.now + replica.clock_offset < attempt.valid_until:
            attempt.sent_at = self.now
        else:
            self.end_attempt(replica, attempt, 0)

    def attempt_ends(self, index: int, *, usage_seen: bool) -> None:
        """The answer has come: with its usage, or without."""
        replica = self.pick(index)
        sent = [attempt for attempt in replica.attempts if attempt.sent_at is not None] if replica else []
        if replica is None or not sent:
            return
        attempt = sent[index % len(sent)]
        if not attempt.billed:
            self.bill(attempt)
        self.end_attempt(replica, attempt, attempt.actual if usage_seen else None)

    def end_attempt(self, replica: Replica, attempt: Attempt, billed: int | None) -> None:
        replica.attempts.remove(attempt)
        if attempt.holds is None:
            replica.ended.append((attempt.attempt_id, billed))
            return
        accounts = [replica.accounts[name] for name in attempt.accounts]
        settle_all(accounts, attempt.holds, billed)
        settled = attempt.bound if billed is None else billed
        for hold in attempt.holds:
            replica.lease_sums[hold.lease_id] = replica.lease_sums.get(hold.lease_id, 0) + settled

    def replica_settles(self, index: int) -> None:
        """Report reservations that are over; again, if no answer came."""
        replica = self.pick(index)
        for attempt_id, billed in list(replica.ended) if replica else ():
            try:
                settlement = self.ask(self.settle_operation(attempt_id, billed))
            except KeeperDownError:
                return
            assert replica is not None
            assert self.keeper is not None
            replica.ended.remove((attempt_id, billed))
            self.keeper.expiries.forget(attempt_id)
            if settlement is not None:
                assert settlement.settled_nano_usd <= settlement.reserved_nano_usd
                assert settlement.overrun_nano_usd == 0

    def settle_operation(self, attempt_id: str, billed: int | None) -> Operation:
        return lambda state: settle(state, attempt_id, billed, self.wall)

    def quiet_traffic(self, draw: random.Random, requests: int) -> int:
        """Requests that come, are sent, end and are reported, with nothing going wrong. Returns how many passed."""
        passed = 0
        for _ in range(requests):
            index = draw.randrange(100)
            bound = draw.randint(1, 300)
            passed += self.wants_attempt(
                index, bound, draw.randint(0, bound), client=draw.random() < 0.3, fate="answered"
            )
            self.attempt_is_sent(index)
            if draw.random() < 0.8:
                self.attempt_ends(index, usage_seen=draw.random() < 0.9)
            self.replica_settles(index)
        return passed
