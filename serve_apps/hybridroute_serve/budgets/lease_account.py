"""A replica's side of a lease: reserve from what is in hand, ask for more before it runs out.

The replica sends what `call` returns and hands the answer to `apply`; one call at a time, and the answer to one
that was overtaken is dropped, for it may speak of a lease that has ended since. When the keeper cannot be
reached, the lease in hand is used up, or runs out, and then the budget counts as exhausted. An attempt may be
sent only while `valid_until` has not passed: later, the keeper may have counted the lease as spent. Counters
only rise, so lost, late and repeated messages do no harm. Pure; money is integer nano-USD, times are seconds of
this process's monotonic clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hybridroute_serve.budgets.ledger import LeaseAnswer, LeaseCall, LeaseOutcome

__all__ = ["Hold", "LeaseAccount", "hold_from_all", "release_all", "settle_all"]

_REPORT_SECONDS = 1.0
"""How long settled money may stay unreported."""
_RENEWALS_PER_LEASE = 3


class Hold(msgspec.Struct, frozen=True):
    """A part of a lease, held for one attempt."""

    lease_id: str
    nano_usd: int
    valid_until: float
    """The attempt must be on its way by then."""


@dataclass(slots=True)
class _InHand:
    """The lease in hand, as this replica counts it."""

    lease_id: str | None = None
    granted: int = 0
    settled: int = 0
    returned: int = 0
    held: int = 0
    reported: int = 0
    """Of `settled`, what the keeper was told."""
    valid_until: float = float("-inf")

    @property
    def unheld(self) -> int:
        return self.granted - self.settled - self.returned - self.held


class LeaseAccount:
    """What one replica may spend from one account."""

    __slots__ = (
        "_account",
        "_awaited",
        "_called_at",
        "_filled_nano_usd",
        "_gives_back",
        "_lease",
        "_lease_seconds",
        "_replica",
        "_sequence",
    )

    def __init__(self, *, replica: str, account: str, lease_seconds: float) -> None:
        self._replica = replica
        self._account = account
        self._lease_seconds = lease_seconds
        self._lease = _InHand()
        self._called_at = float("-inf")
        self._sequence = 0
        self._awaited: int | None = None
        self._filled_nano_usd = 0
        self._gives_back = False

    @property
    def lease_id(self) -> str | None:
        """The lease in hand."""
        return self._lease.lease_id

    def available(self, now: float) -> int:
        """Return what can be held now; below 0 after an overrun."""
        return self._lease.unheld if now < self._lease.valid_until else 0

    def hold(self, nano_usd: int, now: float) -> Hold | None:
        """Hold an attempt's upper bound; None when there is not enough in hand."""
        lease = self._lease
        if lease.lease_id is None or now >= lease.valid_until or nano_usd > lease.unheld:
            return None
        lease.held += nano_usd
        return Hold(lease.lease_id, nano_usd, lease.valid_until)

    def settle(self, hold: Hold, billed_nano_usd: int | None) -> None:
        """End a hold with what was billed; None bills all of it."""
        # Of a lease that was closed the keeper has counted everything.
        if hold.lease_id == self._lease.lease_id:
            self._lease.held -= hold.nano_usd
            self._lease.settled += hold.nano_usd if billed_nano_usd is None else billed_nano_usd

    def release(self, hold: Hold) -> None:
        """End a hold whose attempt was never sent."""
        self.settle(hold, 0)

    def is_call_due(self, now: float) -> bool:
        """Say whether to call though no attempt waits: to refill, renew, report or give back."""
        since = now - self._called_at
        if since >= self._lease_seconds / _RENEWALS_PER_LEASE:
            return True
        if not self._gives_back and 2 * self.available(now) < self._filled_nano_usd:
            return True
        if since < _REPORT_SECONDS:
            return False
        return self._lease.settled > self._lease.reported or (self._gives_back and self._lease.unheld > 0)

    def call(self, now: float, *, needed_nano_usd: int = 0) -> LeaseCall:
        """Return what to send. `needed_nano_usd`: the sum of the upper bounds that wait, 0 for none.

        From here on what is given back is no longer in hand, whether or not the call arrives.
        """
        lease = self._lease
        if self._gives_back:
            lease.returned += max(0, lease.unheld - needed_nano_usd)
        self._called_at = now
        self._sequence += 1
        self._awaited = self._sequence
        lease.reported = lease.settled
        return LeaseCall(
            sequence=self._sequence,
            replica=self._replica,
            account=self._account,
            lease_id=lease.lease_id,
            granted_nano_usd=lease.granted,
            settled_nano_usd=lease.settled,
            returned_nano_usd=lease.returned,
            need_nano_usd=max(0, needed_nano_usd - lease.unheld),
            refill=not self._gives_back,
        )

    def apply(self, answer: LeaseAnswer, call: LeaseCall) -> None:
        """Take the answer to the latest call."""
        if call.sequence != self._awaited:
            return
        self._awaited = None
        if answer.outcome is LeaseOutcome.CLOSED:
            self._lease = _InHand()
            return
        lease = self._lease
        lease.lease_id = answer.lease_id
        lease.granted = max(lease.granted, answer.granted_nano_usd)
        # From before the keeper can have heard of it: its own count of the lease ends later.
        lease.valid_until = self._called_at + self._lease_seconds
        self._gives_back = answer.give_back
        self._filled_nano_usd = max(0, lease.unheld)

    def call_failed(self, call: LeaseCall) -> None:
        """Note that a call got no answer: its answer is dropped if it still comes, its report is repeated."""
        if call.sequence == self._awaited:
            self._awaited = None
            self._lease.reported = 0

    def final_settled_nano_usd(self) -> int:
        """Return the lease's final sum once every hold has ended, for `ledger.close_lease`.

        Raises `RuntimeError` while something is held.
        """
        if self._lease.held:
            raise RuntimeError(f"{self._lease.held} nano-USD are still held")
        return self._lease.settled


def hold_from_all(accounts: Sequence[LeaseAccount], nano_usd: int, now: float) -> tuple[Hold, ...] | None:
    """Hold an attempt's upper bound in every account, or in none."""
    holds: list[Hold] = []
    for account in accounts:
        hold = account.hold(nano_usd, now)
        if hold is None:
            release_all(accounts, holds)
            return None
        holds.append(hold)
    return tuple(holds)


def settle_all(accounts: Sequence[LeaseAccount], holds: Sequence[Hold], billed_nano_usd: int | None) -> None:
    """End the holds of one attempt, given in the accounts' order."""
    for account, hold in zip(accounts, holds, strict=False):
        account.settle(hold, billed_nano_usd)


def release_all(accounts: Sequence[LeaseAccount], holds: Sequence[Hold]) -> None:
    """End the holds of an attempt that was never sent."""
    settle_all(accounts, holds, 0)
