"""The keeper's budgets as an llm-proxy replica sees them: its share of retries, and dollars to reserve from.

Both hold leases and renew them in the background, so that most requests wait for nobody. What is decided locally
is pure (`budgets.lease_account`, `retries.bucket`); here is the traffic around it.

How the proxy uses dollars: `reserve` an attempt's upper bound; journal the `OpenAttempt` with the reservation's
`nano_usd` and `lease_ids`; send it only if `is_valid`; at its end `settle` or, if it was never sent, `release`,
and journal the `AttemptReport` with what that returned and the same `lease_ids`. The replica's name and the
attempts' ids must be those of its journal: when it dies, the keeper ends its leases and reservations by it.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import lru_cache

import aiohttp
import msgspec

from hybridroute_api.serving import LivePolicy
from hybridroute_serve.budgets.expiry import HoldTerms
from hybridroute_serve.budgets.lease_account import Hold, LeaseAccount, hold_from_all
from hybridroute_serve.budgets.ledger import Claim, Reserved
from hybridroute_serve.keeper.budget_messages import RESERVATIONS_PATH, DeniedAnswer, ReservedAnswer
from hybridroute_serve.keeper.budget_terms import ROUTE_ACCOUNT, BudgetTerms, client_account
from hybridroute_serve.keeper.calls import KeeperAwayError, KeeperCalls, stop_task
from hybridroute_serve.keeper.lease_line import LeaseLine
from hybridroute_serve.keeper.settlement_queue import SettlementQueue
from hybridroute_serve.keeper.share_renewer import ShareRenewer

__all__ = ["Denied", "DeniedReason", "DollarAccounts", "Reservation", "ShareRenewer"]

TEND_SECONDS = 0.1
CLIENTS_ROUNDS = 10
"""The clients' file is looked at every so many rounds: once a second."""
STOP_SECONDS = 3.0
"""How long a stopping replica tries to settle; after that the keeper learns it from the journal."""

_ANSWERS = msgspec.json.Decoder(ReservedAnswer | DeniedAnswer)


class DeniedReason(StrEnum):
    """Why an attempt's bound was not reserved."""

    EXHAUSTED = "exhausted"
    PAST_UNKNOWN = "past_unknown"
    """The ledger was lost: nothing may be spent until that past no longer counts."""
    KEEPER_AWAY = "keeper_away"
    """The lease in hand is used up or has run out, and the keeper does not answer."""


class Denied(msgspec.Struct, frozen=True):
    """Nothing was reserved, from no account."""

    account: str
    """`route` or `client:<name>`: the first that could not bear it."""
    asked_nano_usd: int
    reason: DeniedReason
    resets_at: float | None
    """Unix time at which money comes back; None when nobody knows."""


class Reservation(msgspec.Struct, frozen=True):
    """An attempt's upper bound, held in all its accounts until `settle` or `release`."""

    attempt_id: str
    nano_usd: int
    valid_until: float
    """Monotonic clock: the attempt must be on its way by then. Infinite where nothing is budgeted."""
    lease_ids: tuple[str, ...]
    """For the attempt's `OpenAttempt` and `AttemptReport`; empty when the keeper itself holds it."""
    holds: tuple[tuple[LeaseAccount, Hold], ...] = ()
    at_keeper: bool = False


@lru_cache
def _accounts_of(client: str | None) -> tuple[str, ...]:
    return (ROUTE_ACCOUNT,) if client is None else (ROUTE_ACCOUNT, client_account(client))


class DollarAccounts:
    """What one replica may spend. Follow a policy and start it before the first `reserve`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        keeper_url: str,
        token: str,
        replica: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`replica`: as in the journal and its heartbeats."""
        self._calls = KeeperCalls(session, keeper_url, token, monotonic)
        self._replica = replica
        self._monotonic = monotonic
        self._sleep = sleep
        self._source = BudgetTerms()
        self._policy: LivePolicy | None = None
        self._lease_seconds = HoldTerms().lease_seconds
        self._lines: dict[str, LeaseLine] = {}
        self._settlements = SettlementQueue(self._calls, sleep)
        self._claims: set[asyncio.Task[Reserved | Denied]] = set()
        self._task: asyncio.Task[None] | None = None

    async def follow(self, policy: LivePolicy) -> None:
        """Take the live policy: whether the route is budgeted, and where the clients' budgets are listed."""
        self._policy = policy
        await self._source.refresh(policy)

    async def start(self) -> None:
        """Begin to renew in the background. Does not wait for the keeper."""
        self._task = asyncio.create_task(self._run(), name="dollar-accounts")

    async def stop(self) -> None:
        """Give everything back; call it after the last attempt and before the journal stops."""
        await stop_task(self._task)
        if self._claims:
            await asyncio.wait(self._claims)
        await self._settlements.stop(STOP_SECONDS)
        await asyncio.gather(*(line.give_back() for line in self._lines.values()))

    def is_budgeted(self, client: str | None) -> bool:
        """Say whether this client's attempts are paid from any account; if not, no bound is needed."""
        return any(map(self._may_be_budgeted, _accounts_of(client)))

    async def reserve(self, attempt_id: str, client: str | None, nano_usd: int) -> Reservation | Denied:
        """Reserve an attempt's upper bound from the route's account and the client's, or from none.

        From leases in hand at once. Else the keeper is asked, which a client waits for: for more in hand, and what
        a lease does not hold, for this attempt alone.
        """
        names = self._names(client)
        reservation = self._hold(attempt_id, names, nano_usd)
        if reservation is not None:
            return reservation
        try:
            await asyncio.gather(*(self._line(name).ask_for(nano_usd) for name in names))
            names = tuple(name for name in names if not self._line(name).is_unbudgeted)
            reservation = self._hold(attempt_id, names, nano_usd)
            if reservation is not None:
                return reservation
            return await self._claim(Claim(attempt_id, self._replica, names, nano_usd))
        except KeeperAwayError:
            return Denied(names[0], nano_usd, DeniedReason.KEEPER_AWAY, None)

    def is_valid(self, reservation: Reservation) -> bool:
        """Say whether the attempt may still be sent; ask right before sending, and `release` if not."""
        return self._monotonic() < reservation.valid_until

    def settle(self, reservation: Reservation, billed_nano_usd: int | None) -> int:
        """End it with what was billed, None for unknown; returns what counts, for `settled_nano_usd`."""
        settled = reservation.nano_usd if billed_nano_usd is None else billed_nano_usd
        for account, hold in reservation.holds:
            account.settle(hold, settled)
        if reservation.at_keeper:
            self._settlements.put(reservation.attempt_id, settled)
        return settled

    def release(self, reservation: Reservation) -> None:
        """End one whose attempt was never sent."""
        self.settle(reservation, 0)

    def _names(self, client: str | None) -> tuple[str, ...]:
        """Return the accounts to reserve from; while nobody knows, all that there could be: the keeper says."""
        names = _accounts_of(client)
        for name in names:
            if not self._may_be_budgeted(name):
                return tuple(name for name in names if self._may_be_budgeted(name))
        return names

    def _may_be_budgeted(self, name: str) -> bool:
        terms = self._source.terms
        if terms is not None and name not in terms:
            return False
        line = self._lines.get(name)
        return line is None or not line.is_unbudgeted

    def _line(self, name: str) -> LeaseLine:
        line = self._lines.get(name)
        if line is None:
            account = LeaseAccount(replica=self._replica, account=name, lease_seconds=self._lease_seconds)
            line = self._lines[name] = LeaseLine(account, self._calls, self._monotonic)
        return line

    def _hold(self, attempt_id: str, names: tuple[str, ...], nano_usd: int) -> Reservation | None:
        lines = [self._line(name) for name in names]
        accounts = [line.account for line in lines]
        now = self._monotonic()
        holds = hold_from_all(accounts, nano_usd, now)
        if holds is None:
            return None
        for line in lines:
            if line.account.is_call_due(now):
                line.tend()
        return Reservation(
            attempt_id,
            nano_usd,
            min([hold.valid_until for hold in holds], default=math.inf),
            tuple([hold.lease_id for hold in holds]),
            tuple(zip(accounts, holds, strict=True)),
        )

    async def _claim(self, claim: Claim) -> Reservation | Denied:
        valid_until = self._monotonic() + self._lease_seconds
        task = asyncio.create_task(self._send_claim(claim), name="dollar-claim")
        self._claims.add(task)
        task.add_done_callback(self._claims.discard)
        try:
            answer = await asyncio.shield(task)
        except asyncio.CancelledError:
            # The client went away. What the keeper answers is given back when it comes.
            task.add_done_callback(lambda done: self._abandon(claim, done))
            raise
        except KeeperAwayError:
            # It may have been heard all the same.
            self._settlements.put(claim.attempt_id, 0)
            raise
        if isinstance(answer, Denied):
            return answer
        return Reservation(claim.attempt_id, claim.nano_usd, valid_until, (), at_keeper=True)

    async def _send_claim(self, claim: Claim) -> Reserved | Denied:
        body = await self._calls.post(RESERVATIONS_PATH, claim)
        try:
            answer = _ANSWERS.decode(body or b"")
        except msgspec.MsgspecError as error:
            raise KeeperAwayError(str(error)) from error
        if isinstance(answer, ReservedAnswer):
            return Reserved(answer.nano_usd)
        reason = DeniedReason.PAST_UNKNOWN if answer.past_unknown else DeniedReason.EXHAUSTED
        return Denied(answer.account, answer.asked_nano_usd, reason, answer.resets_at)

    def _abandon(self, claim: Claim, done: asyncio.Task[Reserved | Denied]) -> None:
        if done.cancelled() or done.exception() is not None or isinstance(done.result(), Reserved):
            self._settlements.put(claim.attempt_id, 0)

    async def _run(self) -> None:
        rounds = 0
        while True:
            if self._source.terms is not None:
                # Money in hand before the first request: in a cluster the keeper's answer takes a second or two.
                for name in self._names(None):
                    self._line(name)
            for line in list(self._lines.values()):
                line.tend()
            if rounds % CLIENTS_ROUNDS == 0 and self._policy is not None:
                await self._source.refresh(self._policy)
            rounds += 1
            await self._sleep(TEND_SECONDS)
