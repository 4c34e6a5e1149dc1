"""The dollar ledger as a pure state machine: reserve an upper bound, settle by what was billed.

State in, state and answer out; nothing is granted before the caller has stored the new state (`journalled`).
At every stored state, for each account:

    settled in the window + open reservations + leases not returned <= limit, when any of them was granted

- An attempt whose outcome shows no usage settles at its full reservation. A reservation or lease whose holder
  has died without saying what it spent is settled in full (`expiry` says when).
- A *lease* is a small amount, at most 1 % of the limit, from which a replica reserves by itself
  (`lease_account`). Its counters only rise, so that lost, late and repeated messages do no harm. What a lease
  cannot hold is reserved here, one attempt at a time. Near the limit a lease holds just what was asked for, and
  holders are told to give back what they do not use.
- Accounts (the route's, and one per client with a budget) are reserved from together or not at all.
- Money is settled in the window that is current *then*, and what is open counts against each window it is open
  in; so a window's bill never exceeds its limit, wherever in it an attempt began. Window ids only move forward.
- An account whose past is unknown (a lost store) is exhausted until that past no longer counts.

Money is integer nano-USD. Time is Unix time, for windows alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from hybridroute_serve.budgets.accounts import NOT_OVER, Account, AccountTerms

__all__ = [
    "Claim",
    "Denied",
    "Lease",
    "LeaseAnswer",
    "LeaseCall",
    "LeaseOutcome",
    "LedgerState",
    "Reservation",
    "Reserved",
    "Settlement",
    "Standing",
    "UnknownAccountError",
    "age_lost_past",
    "change_terms",
    "close_lease",
    "exhausted_ledger",
    "fresh_ledger",
    "lease",
    "reclaim_lease",
    "release",
    "reserve",
    "settle",
    "standing",
]

_LEASE_SHARE = 100
"""A lease is at most one of so many parts of the limit."""


class UnknownAccountError(LookupError):
    """A claim names an account that the ledger has no terms for."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """An attempt's upper bound, held until it is settled."""

    replica: str
    accounts: tuple[str, ...]
    nano_usd: int


@dataclass(frozen=True, slots=True)
class Lease:
    """What a replica may spend by itself. The three counters only rise."""

    replica: str
    account: str
    granted_nano_usd: int = 0
    settled_nano_usd: int = 0
    returned_nano_usd: int = 0

    @property
    def outstanding_nano_usd(self) -> int:
        """What may still be spent from it, or has been and was not said yet."""
        return max(0, self.granted_nano_usd - self.settled_nano_usd - self.returned_nano_usd)


@dataclass(frozen=True, slots=True)
class LedgerState:
    """Everything that is stored: totals and leases, never records."""

    life: str
    """Unique to one life of the store: lease ids of a store that was lost never come back."""
    accounts: dict[str, Account]
    reservations: dict[str, Reservation] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    leases_made: int = 0
    """Numbers leases."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A replica wants to spend up to so much on one attempt, out of all these accounts."""

    attempt_id: str
    replica: str
    accounts: tuple[str, ...]
    nano_usd: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """The claim is granted."""

    nano_usd: int


@dataclass(frozen=True, slots=True)
class Denied:
    """One account cannot bear the claim. The numbers are that account's, at this moment."""

    account: str
    limit_nano_usd: int
    settled_nano_usd: int
    reserved_nano_usd: int
    asked_nano_usd: int
    resets_at: float
    """Unix time at which the oldest money that counts no longer does."""
    past_unknown: bool
    """The store was lost; the account is exhausted until `resets_at`."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a reservation ended."""

    reserved_nano_usd: int
    settled_nano_usd: int

    @property
    def overrun_nano_usd(self) -> int:
        """More than the bound: the upstream has billed what should not exist. Settled all the same."""
        return max(0, self.settled_nano_usd - self.reserved_nano_usd)


class LeaseOutcome(StrEnum):
    """What became of a call."""

    LENT = "lent"
    """What was needed is there, or nothing was needed."""
    TOO_LARGE = "too_large"
    """More than a lease may hold: reserve it here."""
    EXHAUSTED = "exhausted"
    CLOSED = "closed"
    """The lease was settled in full; forget it and ask for another."""


@dataclass(frozen=True, slots=True)
class LeaseCall:
    """What a replica says of its lease, and what it needs more. Counters are sums since the lease began."""

    sequence: int
    """The replica's own numbering; the keeper does not look at it."""
    replica: str
    account: str
    lease_id: str | None
    """None before the first answer."""
    granted_nano_usd: int
    """The most that an answer has told it."""
    settled_nano_usd: int
    returned_nano_usd: int
    need_nano_usd: int
    """More than it has, for an attempt that waits; 0 when it only reports."""
    refill: bool
    """Fill the lease up as far as is wise."""


@dataclass(frozen=True, slots=True)
class LeaseAnswer:
    """The state of a lease after a call."""

    outcome: LeaseOutcome
    lease_id: str | None
    """None while nothing was ever lent."""
    granted_nano_usd: int
    give_back: bool
    """The limit is near: return what no attempt waits for."""
    denied: Denied | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """An account's numbers, for status and metrics."""

    limit_nano_usd: int
    settled_nano_usd: int
    reserved_nano_usd: int
    """Open reservations and leases not returned."""
    resets_at: float
    past_unknown: bool


def fresh_ledger(life: str, terms: Mapping[str, AccountTerms], now_unix: float) -> LedgerState:
    """Return the ledger of a route that has never spent anything. `life`: a new random name."""
    return LedgerState(life, {name: Account.fresh(account, now_unix) for name, account in terms.items()})


def exhausted_ledger(life: str, terms: Mapping[str, AccountTerms], now_unix: float) -> LedgerState:
    """Return the ledger of a route whose store was lost: nothing may be spent in this window."""
    accounts = fresh_ledger(life, terms, now_unix).accounts
    return LedgerState(
        life, {name: replace(account, unknown_since=NOT_OVER) for name, account in accounts.items()}
    )


def change_terms(state: LedgerState, terms: Mapping[str, AccountTerms], now_unix: float) -> LedgerState:
    """Follow the live policy. What was spent stays spent, also when the window changes its kind."""
    accounts: dict[str, Account] = {}
    for name, old in state.accounts.items():
        if name in terms:
            accounts[name] = old.with_terms(terms[name], now_unix)
            continue
        account = old.turned(now_unix)
        if account.settled or account.past_unknown or _is_in_use(state, name):
            accounts[name] = replace(account, retired=True)
    for name, new_terms in terms.items():
        if name not in accounts:
            accounts[name] = Account.fresh(new_terms, now_unix)
    return replace(state, accounts=accounts)


def reserve(state: LedgerState, claim: Claim, now_unix: float) -> tuple[LedgerState, Reserved | Denied]:
    """Reserve an attempt's upper bound from all its accounts, or from none. Repeating it changes nothing."""
    if claim.nano_usd < 0:
        raise ValueError(f"cannot reserve {claim.nano_usd} nano-USD")
    known = state.reservations.get(claim.attempt_id)
    if known is not None:
        return state, Reserved(known.nano_usd)
    state = _turn_all(state, claim.accounts, now_unix)
    for name in claim.accounts:
        if claim.nano_usd > _free(state, name):
            return state, _denial(state, name, claim.nano_usd)
    reservation = Reservation(claim.replica, claim.accounts, claim.nano_usd)
    state = replace(state, reservations={**state.reservations, claim.attempt_id: reservation})
    return state, Reserved(claim.nano_usd)


def settle(
    state: LedgerState, attempt_id: str, billed_nano_usd: int | None, now_unix: float
) -> tuple[LedgerState, Settlement | None]:
    """End a reservation with what was billed; None bills all of it. Unknown attempts are settled already."""
    reservation = state.reservations.get(attempt_id)
    if reservation is None:
        return state, None
    billed = reservation.nano_usd if billed_nano_usd is None else billed_nano_usd
    reservations = {key: other for key, other in state.reservations.items() if key != attempt_id}
    state = replace(state, reservations=reservations)
    for name in reservation.accounts:
        state = _charge(state, name, billed, now_unix)
    return state, Settlement(reservation.nano_usd, billed)


def release(state: LedgerState, attempt_id: str, now_unix: float) -> tuple[LedgerState, Settlement | None]:
    """End a reservation whose attempt was never sent."""
    return settle(state, attempt_id, 0, now_unix)


def lease(state: LedgerState, call: LeaseCall, now_unix: float) -> tuple[LedgerState, LeaseAnswer]:
    """Take a replica's report on its lease, and lend it more."""
    state = _turn_all(state, (call.account,), now_unix)
    lease_id = call.lease_id or _lease_id_of(state, call.replica, call.account)
    if lease_id is None:
        lease_id = f"{state.life}.{state.leases_made + 1}"
        current = Lease(call.replica, call.account)
    elif lease_id not in state.leases:
        return state, LeaseAnswer(LeaseOutcome.CLOSED, lease_id, 0, give_back=False)
    else:
        state = _report(state, lease_id, call.settled_nano_usd, call.returned_nano_usd, now_unix)
        current = state.leases[lease_id]

    # Grants in an answer that was lost, or is still under way, serve the need as well.
    need = max(0, call.need_nano_usd - (current.granted_nano_usd - call.granted_nano_usd))
    cap = state.accounts[call.account].terms.limit_nano_usd // _LEASE_SHARE
    room = max(0, cap - current.outstanding_nano_usd)
    free = _free(state, call.account)
    if need and need > free:
        denied = _denial(state, call.account, need)
        outcome, grant = LeaseOutcome.EXHAUSTED, 0
    elif need > room:
        denied, outcome, grant = None, LeaseOutcome.TOO_LARGE, 0
    else:
        fills = call.refill and free - room >= cap
        denied, outcome, grant = None, LeaseOutcome.LENT, room if fills else need
    if grant:
        current = replace(current, granted_nano_usd=current.granted_nano_usd + grant)
        made = state.leases_made + (lease_id not in state.leases)
        state = replace(state, leases={**state.leases, lease_id: current}, leases_made=made)
    return state, LeaseAnswer(
        outcome,
        lease_id if lease_id in state.leases else None,
        current.granted_nano_usd,
        give_back=_free(state, call.account) < cap,
        denied=denied,
    )


def close_lease(state: LedgerState, lease_id: str, settled_nano_usd: int, now_unix: float) -> LedgerState:
    """End a lease whose final sum is known: its holder has stopped, or is dead and its journal was read to its end."""
    if lease_id not in state.leases:
        return state
    state = _report(state, lease_id, settled_nano_usd, 0, now_unix)
    return _without_lease(state, lease_id)


def reclaim_lease(state: LedgerState, lease_id: str, now_unix: float) -> LedgerState:
    """End a lease whose holder is gone without a word: all of it counts as spent."""
    gone = state.leases.get(lease_id)
    if gone is None:
        return state
    state = _charge(state, gone.account, gone.outstanding_nano_usd, now_unix)
    return _without_lease(state, lease_id)


def age_lost_past(state: LedgerState, now_unix: float) -> LedgerState:
    """Open accounts whose lost past no longer counts.

    The keeper calls it every second or so, but only once it has run for `expiry.HoldTerms.silence_seconds`:
    before that, leases that were lost with the store may still be spent.
    """
    if not any(account.past_unknown for account in state.accounts.values()):
        return state
    accounts = {name: account.with_lost_past_aged(now_unix) for name, account in state.accounts.items()}
    return replace(state, accounts=accounts)


def standing(state: LedgerState, account: str, now_unix: float) -> Standing:
    """Return an account's numbers. Raises `UnknownAccountError`."""
    state = _turn_all(state, (account,), now_unix)
    found = state.accounts[account]
    return Standing(
        limit_nano_usd=found.terms.limit_nano_usd,
        settled_nano_usd=found.settled_nano_usd,
        reserved_nano_usd=_reserved(state, account),
        resets_at=found.resets_at,
        past_unknown=found.past_unknown,
    )


def _turn_all(state: LedgerState, names: Iterable[str], now_unix: float) -> LedgerState:
    turned: dict[str, Account] = {}
    for name in names:
        account = state.accounts.get(name)
        if account is None:
            raise UnknownAccountError(name)
        turned_account = account.turned(now_unix)
        if turned_account is not account:
            turned[name] = turned_account
    return replace(state, accounts={**state.accounts, **turned}) if turned else state


def _is_in_use(state: LedgerState, account: str) -> bool:
    return any(account in reservation.accounts for reservation in state.reservations.values()) or any(
        other.account == account for other in state.leases.values()
    )


def _reserved(state: LedgerState, account: str) -> int:
    open_nano_usd = sum(
        reservation.nano_usd for reservation in state.reservations.values() if account in reservation.accounts
    )
    leased_nano_usd = sum(
        other.outstanding_nano_usd for other in state.leases.values() if other.account == account
    )
    return open_nano_usd + leased_nano_usd


def _free(state: LedgerState, name: str) -> int:
    """Return what can be granted now; below 0 after the limit was cut."""
    account = state.accounts[name]
    if account.past_unknown:
        return 0
    return account.terms.limit_nano_usd - account.settled_nano_usd - _reserved(state, name)


def _denial(state: LedgerState, name: str, asked_nano_usd: int) -> Denied:
    account = state.accounts[name]
    return Denied(
        account=name,
        limit_nano_usd=account.terms.limit_nano_usd,
        settled_nano_usd=account.settled_nano_usd,
        reserved_nano_usd=_reserved(state, name),
        asked_nano_usd=asked_nano_usd,
        resets_at=account.resets_at,
        past_unknown=account.past_unknown,
    )


def _charge(state: LedgerState, name: str, nano_usd: int, now_unix: float) -> LedgerState:
    if nano_usd == 0:
        return state
    account = state.accounts[name].charged(nano_usd, now_unix)
    return replace(state, accounts={**state.accounts, name: account})


def _report(
    state: LedgerState, lease_id: str, settled_nano_usd: int, returned_nano_usd: int, now_unix: float
) -> LedgerState:
    known = state.leases[lease_id]
    newly_settled = max(0, settled_nano_usd - known.settled_nano_usd)
    reported = replace(
        known,
        settled_nano_usd=known.settled_nano_usd + newly_settled,
        returned_nano_usd=max(known.returned_nano_usd, returned_nano_usd),
    )
    if reported == known:
        return state
    state = _charge(state, known.account, newly_settled, now_unix)
    return replace(state, leases={**state.leases, lease_id: reported})


def _lease_id_of(state: LedgerState, replica: str, account: str) -> str | None:
    for lease_id, known in state.leases.items():
        if known.replica == replica and known.account == account:
            return lease_id
    return None


def _without_lease(state: LedgerState, lease_id: str) -> LedgerState:
    return replace(state, leases={key: kept for key, kept in state.leases.items() if key != lease_id})
