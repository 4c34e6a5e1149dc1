"""One account's lease at one replica, and the calls about it: one at a time, for everybody who waits.

What is in hand is `budgets.lease_account`'s to say; here is the traffic. Attempts that wait while a call is under
way are asked for together in the next.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from hybridroute_serve.budgets.lease_account import LeaseAccount
from hybridroute_serve.budgets.ledger import LeaseAnswer, LeaseOutcome, UnknownAccountError
from hybridroute_serve.keeper.budget_messages import LEASE_CLOSE_PATH, LEASES_PATH, LeaseClosing
from hybridroute_serve.keeper.calls import KeeperAwayError, KeeperCalls

__all__ = ["LeaseLine"]

_LOG = logging.getLogger(__name__)

DIRECT_SECONDS = 1.0
"""After a lease could not hold what was asked for, attempts go straight to the keeper for so long."""
UNBUDGETED_SECONDS = 1.0
"""How long the keeper's word holds that an account has no budget."""

_ANSWERS = msgspec.json.Decoder(LeaseAnswer)


class LeaseLine:
    """A lease and whoever waits for more of it."""

    def __init__(self, account: LeaseAccount, calls: KeeperCalls, monotonic: Callable[[], float]) -> None:
        self.account = account
        self._calls = calls
        self._monotonic = monotonic
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._direct_until = float("-inf")
        self._unbudgeted_until: float | None = None

    @property
    def is_unbudgeted(self) -> bool:
        """Whether the keeper has said lately that there is no budget."""
        return self._unbudgeted_until is not None and self._monotonic() < self._unbudgeted_until

    async def ask_for(self, nano_usd: int) -> None:
        """Ask for so much more in hand, unless it is known that a lease does not hold it. Errors: KeeperAwayError."""
        now = self._monotonic()
        if now < self._direct_until or self.account.available(now) >= nano_usd:
            return
        if self._calls.is_away:
            raise KeeperAwayError("the keeper did not answer lately")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((nano_usd, done))
        self._start()
        await done

    def tend(self) -> None:
        """Refill, renew or report in the background, if that is due."""
        may_call = not self._calls.is_away and not self.is_unbudgeted
        if may_call and self.account.is_call_due(self._monotonic()):
            self._start()

    async def give_back(self) -> None:
        """End the lease; of what is still held the journal tells. Never raises for a keeper that is away."""
        if self._task is not None:
            await self._task
        lease_id = self.account.lease_id
        if lease_id is None:
            return
        try:
            closing = LeaseClosing(lease_id, self.account.final_settled_nano_usd())
            await self._calls.post(LEASE_CLOSE_PATH, closing)
        except (RuntimeError, KeeperAwayError) as error:
            _LOG.warning("lease was not given back lease_id=%s reason=%s", lease_id, error)

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="dollar-lease")

    async def _run(self) -> None:
        try:
            while True:
                group, self._waiting = self._waiting, []
                error: Exception | None = None
                try:
                    await self._call(sum(nano_usd for nano_usd, _ in group))
                except KeeperAwayError as away:
                    error = away
                except Exception as unexpected:  # noqa: BLE001 - those who wait must not wait for ever
                    _LOG.exception("lease could not be called for")
                    error = unexpected
                for _, done in group:
                    # A client that went away has taken its request with it.
                    with suppress(asyncio.InvalidStateError):
                        done.set_result(None) if error is None else done.set_exception(error)
                if not self._waiting:
                    return
        finally:
            self._task = None

    async def _call(self, needed_nano_usd: int) -> None:
        account = self.account
        while True:
            call = account.call(self._monotonic(), needed_nano_usd=needed_nano_usd)
            try:
                body = await self._calls.post(LEASES_PATH, call)
                answer = _ANSWERS.decode(body or b"")
            except UnknownAccountError:
                account.call_failed(call)
                self._unbudgeted_until = self._monotonic() + UNBUDGETED_SECONDS
                return
            except (KeeperAwayError, msgspec.MsgspecError) as error:
                account.call_failed(call)
                raise KeeperAwayError(str(error)) from error
            account.apply(answer, call)
            if answer.outcome is not LeaseOutcome.CLOSED:
                break
        if answer.outcome is not LeaseOutcome.LENT:
            self._direct_until = self._monotonic() + DIRECT_SECONDS
