"""The dollar ledger at work in the keeper: reservations, leases, and the ends of what has died or gone silent.

Around the pure ledger (`budgets`): terms that follow the live policy, clocks, and journals of dead replicas. Not
here: the hold on its store (`stored_ledger`), HTTP (`budget_endpoints`).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hybridroute_api.records import Batch
from hybridroute_api.serving import LivePolicy
from hybridroute_serve.budgets.accounts import AccountTerms
from hybridroute_serve.budgets.expiry import Expiries, HoldTerms
from hybridroute_serve.budgets.ledger import (
    Claim,
    Denied,
    LeaseAnswer,
    LeaseCall,
    LeaseOutcome,
    LedgerState,
    Reserved,
    Standing,
    UnknownAccountError,
    age_lost_past,
    change_terms,
    close_lease,
    lease,
    reclaim_lease,
    reserve,
    settle,
    standing,
)
from hybridroute_serve.keeper.budget_terms import BudgetTerms
from hybridroute_serve.keeper.ledger_home import LedgerHome
from hybridroute_serve.keeper.stored_ledger import StoredLedger

__all__ = ["BudgetsNotReadyError", "DollarParts", "Dollars", "EndedReplicaError"]

_LOG = logging.getLogger(__name__)

ENDED_REMEMBERED = 1024
"""How many replicas' ends are remembered: those whose last calls may still be on their way."""


class BudgetsNotReadyError(Exception):
    """It is not known yet who may spend what: no live policy, or no readable list of clients."""


class EndedReplicaError(Exception):
    """A call of a replica that has ended, and overtaken by that: what it is granted nobody would give back."""


@dataclass(frozen=True, slots=True)
class DollarParts:
    """What the keeper lends its ledger."""

    home: LedgerHome
    clock: Callable[[], float]
    """Unix seconds, for windows alone."""
    monotonic: Callable[[], float]
    confirm_epoch: Callable[[], Awaitable[None]]
    """Raises when a newer keeper has taken over."""
    read_lease_sums: Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]
    """What journals say was settled in leases."""


class Dollars:
    """The ledger of one keeper. Its calls raise budgets' FencedError once a newer keeper has it."""

    def __init__(self, parts: DollarParts) -> None:
        self._parts = parts
        self._source = BudgetTerms()
        self._terms_in_force: Mapping[str, AccountTerms] | None = None
        self._hold_terms = HoldTerms()
        self._expiries = Expiries(self._hold_terms, (), parts.monotonic())
        self._opened_at = parts.monotonic()
        self._denied: Counter[str] = Counter()
        self._ended: dict[str, None] = {}
        self._stored = StoredLedger(
            parts.home,
            clock=parts.clock,
            monotonic=parts.monotonic,
            terms=self._known_terms,
            confirm_epoch=parts.confirm_epoch,
            on_open=self._note_open,
        )

    @property
    def waits_for_claims(self) -> bool:
        """True while the ledger is shared, and the next call would take it over."""
        return self._stored.waits_for_claims

    async def make_first(self) -> None:
        """Make the ledger of a route that has never had one. Errors: sqlite3.Error, OSError."""
        await self._stored.make_first()

    async def close(self) -> None:
        """Finish what waits, and let go of the ledger."""
        await self._stored.close()

    async def follow(self, policy: LivePolicy) -> None:
        """Bring in force what policy and clients file say now; the first time, that opens a ledger not shared."""
        # Twice: an upstream may bill later than the proxy waits. Never less than before: old requests go on.
        longest = max(self._hold_terms.longest_request_seconds, 2 * policy.llm.longest_seconds)
        self._hold_terms = HoldTerms(longest_request_seconds=longest)
        self._expiries.change_terms(self._hold_terms)
        await self._source.refresh(policy)
        terms = self._source.terms
        if terms is not None and terms != self._terms_in_force and not self._stored.waits_for_claims:
            await self._stored.submit(lambda state: (change_terms(state, terms, self._parts.clock()), None))
            self._terms_in_force = terms
            _LOG.info("budgets were brought in force accounts=%d", len(terms))

    async def call_lease(self, call: LeaseCall) -> LeaseAnswer:
        """Take a report on a lease and lend more.

        Errors: UnknownAccountError when it is not budgeted now, EndedReplicaError.
        """
        self._refuse_ended(call.replica)
        if call.account not in self._known_terms():
            if call.lease_id is not None:
                # The budget was taken away while this was out: what was spent is noted, nothing more is lent.
                last = replace(call, need_nano_usd=0, refill=False)
                await self._stored.submit(lambda state: lease(state, last, self._parts.clock()))
            raise UnknownAccountError(call.account)
        answer: LeaseAnswer = await self._stored.submit(lambda state: lease(state, call, self._parts.clock()))
        if answer.lease_id is not None and answer.outcome is not LeaseOutcome.CLOSED:
            self._expiries.heard(answer.lease_id, self._parts.monotonic())
        return answer

    async def close_lease(self, lease_id: str, settled_nano_usd: int) -> None:
        """End a lease whose holder gives it back."""
        await self._stored.submit(
            lambda state: (close_lease(state, lease_id, settled_nano_usd, self._parts.clock()), None)
        )
        self._expiries.forget(lease_id)

    async def reserve(self, claim: Claim) -> Reserved | Denied:
        """Reserve from all accounts of the claim that are budgeted now. Errors: ValueError, EndedReplicaError."""
        self._refuse_ended(claim.replica)
        terms = self._known_terms()
        claim = replace(claim, accounts=tuple(name for name in claim.accounts if name in terms))
        if not claim.accounts:
            return Reserved(claim.nano_usd)
        answer: Reserved | Denied = await self._stored.submit(
            lambda state: reserve(state, claim, self._parts.clock())
        )
        if isinstance(answer, Denied):
            self._denied[answer.account] += 1
        else:
            self._expiries.heard(claim.attempt_id, self._parts.monotonic())
        return answer

    async def settle(self, attempt_id: str, billed_nano_usd: int | None) -> None:
        """End a reservation; one that is unknown has ended."""
        settlement = await self._stored.submit(
            lambda state: settle(state, attempt_id, billed_nano_usd, self._parts.clock())
        )
        self._expiries.forget(attempt_id)
        if settlement is not None and settlement.overrun_nano_usd:
            _LOG.error(
                "attempt was billed above its bound attempt_id=%s overrun_nano_usd=%d",
                attempt_id,
                settlement.overrun_nano_usd,
            )

    async def learn(self, batch: Batch) -> None:
        """End what journals say is over: reservations of reported attempts, and all that ended replicas held.

        Call it once the batch is stored. A replica's last heartbeat comes after its last report.
        """
        ended = {beat.replica for beat in batch.heartbeats if beat.ended}
        self._remember_ended(ended)
        state = self._stored.state
        if state is None:
            return
        reported = [report for report in batch.attempts if report.attempt_id in state.reservations]
        await asyncio.gather(
            *(self.settle(report.attempt_id, report.settled_nano_usd) for report in reported)
        )
        if ended:
            await self._end_holders(ended)

    async def sweep(self) -> None:
        """End what has been silent too long, age a lost past, and see to it that the ledger is still ours."""
        await self._stored.confirm()
        if self._stored.state is None:
            return
        now = self._parts.monotonic()
        for key in self._expiries.due(now):
            await self._stored.submit(partial(self._end_silent, key))
            self._expiries.forget(key)
            _LOG.warning("silent holder's money was counted as spent key=%s", key)
        if now >= self._opened_at + self._hold_terms.silence_seconds:
            await self._stored.submit(lambda state: (age_lost_past(state, self._parts.clock()), None))

    def standings(self) -> dict[str, Standing]:
        """Return each budgeted account's numbers; empty before the ledger was read."""
        if self._source.terms is None:
            return {}
        state, now = self._stored.shown, self._parts.clock()
        if state is None:
            return {}
        return {name: standing(state, name, now) for name in self._source.terms if name in state.accounts}

    def lease_ids(self) -> tuple[str, ...] | None:
        """Return the leases that are out; None while that is not known."""
        state = self._stored.state
        return tuple(state.leases) if state is not None else None

    def take_denials(self) -> Counter[str]:
        """Return claims that were denied since the last call, by account."""
        taken, self._denied = self._denied, Counter()
        return taken

    async def _end_holders(self, replicas: set[str]) -> None:
        state = self._stored.state
        assert state is not None  # noqa: S101 - `learn` looked, and an open ledger stays open
        leases = [key for key, held in state.leases.items() if held.replica in replicas]
        sums = await self._parts.read_lease_sums(leases) if leases else {}
        for lease_id in leases:
            await self._stored.submit(partial(self._end_lease, lease_id, sums.get(lease_id, 0)))
            self._expiries.forget(lease_id)
        for attempt_id, reservation in state.reservations.items():
            if reservation.replica in replicas:
                # An attempt is journalled before it is sent, so one that was never reported was never sent.
                await self.settle(attempt_id, 0)
        if leases:
            _LOG.warning("leases of ended replicas were closed leases=%d", len(leases))

    def _remember_ended(self, replicas: set[str]) -> None:
        self._ended.update(dict.fromkeys(replicas))
        for replica in list(self._ended)[:-ENDED_REMEMBERED]:
            del self._ended[replica]

    def _refuse_ended(self, replica: str) -> None:
        if replica in self._ended:
            raise EndedReplicaError(f"replica {replica} has ended")

    def _end_lease(self, lease_id: str, journalled: int, state: LedgerState) -> tuple[LedgerState, Any]:
        now, held = self._parts.clock(), state.leases.get(lease_id)
        if held is not None and journalled < held.settled_nano_usd:
            # The journal knows less than its replica had reported: then it is no proof of the rest.
            return reclaim_lease(state, lease_id, now), None
        return close_lease(state, lease_id, journalled, now), None

    def _end_silent(self, key: str, state: LedgerState) -> tuple[LedgerState, Any]:
        now = self._parts.clock()
        if key in state.leases:
            return reclaim_lease(state, key, now), None
        return settle(state, key, None, now)

    def _note_open(self, state: LedgerState) -> None:
        self._opened_at = self._parts.monotonic()
        self._expiries = Expiries(self._hold_terms, [*state.leases, *state.reservations], self._opened_at)

    def _known_terms(self) -> Mapping[str, AccountTerms]:
        if self._source.terms is None:
            raise BudgetsNotReadyError("it is not known yet who may spend what")
        return self._source.terms
