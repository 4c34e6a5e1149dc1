"""A keeper's hold on its ledger, one writer: operations in, stored in groups, then answered.

Operations that come while one group is stored go into the next, together. A store that is lost under the keeper is
made anew, exhausted. Opening it fences every earlier keeper off, so a keeper that was itself replaced must not: it
asks first. Not here: what operations mean (`dollars`), where it is stored (`ledger_home`).
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from hybridroute_serve.budgets.accounts import AccountTerms
from hybridroute_serve.budgets.journalled import JournalledLedger, Operation, open_ledger
from hybridroute_serve.budgets.ledger import LedgerState, UnknownAccountError, change_terms
from hybridroute_serve.budgets.store import StoreMissingError, StoreUnavailableError
from hybridroute_serve.keeper.ledger_home import LedgerHome

__all__ = ["StoredLedger"]

_LOG = logging.getLogger(__name__)

GROUP_OPERATIONS = 256
"""A group takes no more, so that nobody waits long for others' operations."""


class StoredLedger:
    """One keeper's hold; it begins with the first operation."""

    def __init__(
        self,
        home: LedgerHome,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        terms: Callable[[], Mapping[str, AccountTerms]],
        confirm_epoch: Callable[[], Awaitable[None]],
        on_open: Callable[[LedgerState], None],
    ) -> None:
        """`terms` and `confirm_epoch` are asked before it is opened, and raise if it must not be."""
        self._home = home
        self._clock = clock
        self._monotonic = monotonic
        self._terms = terms
        self._confirm_epoch = confirm_epoch
        self._on_open = on_open
        self._ledger: JournalledLedger | None = None
        self._peeked: LedgerState | None = None
        self._confirmed_at = float("-inf")
        self._lock = asyncio.Lock()
        self._waiting: list[tuple[Operation, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> LedgerState | None:
        """The state as it is stored; None before it is open."""
        return self._ledger.state if self._ledger is not None else None

    @property
    def shown(self) -> LedgerState | None:
        """The state for people to see: before it is open, what was stored when this keeper last looked."""
        if self._ledger is not None or self._peeked is None:
            return self.state
        return change_terms(self._peeked, self._terms(), self._clock())

    @property
    def waits_for_claims(self) -> bool:
        """True while only a claim may open it."""
        return self._home.is_shared and self._ledger is None

    async def make_first(self) -> None:
        """Make the store of a route that has never had one. Errors: sqlite3.Error, OSError."""
        await self._home.make_first(self._clock())

    async def close(self) -> None:
        """Finish what waits, and let go of the store."""
        if self._task is not None:
            await self._task
        await self._home.close()

    async def confirm(self) -> None:
        """Make sure that the store is there and ours, or make a lost one anew.

        Errors: FencedError, sqlite3.Error, OSError.
        """
        if self._monotonic() - self._confirmed_at < self._home.confirm_seconds:
            return
        self._confirmed_at = self._monotonic()
        async with self._lock:
            if self._ledger is None:
                await self._look()
                return
            try:
                await self._ledger.confirm()
            except StoreMissingError:
                await self._open_again(self._ledger)

    async def _look(self) -> None:
        try:
            self._peeked = await self._home.peek()
        except (StoreMissingError, StoreUnavailableError, msgspec.DecodeError) as error:
            self._peeked = None
            _LOG.warning("ledger was not read reason=%s", error)

    async def submit(self, operation: Operation) -> Any:
        """Return the operation's answer once it is stored.

        Errors: what the operation says is wrong with it, FencedError, sqlite3.Error, OSError.
        """
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="keeper-ledger")
        return await done

    async def _drain(self) -> None:
        while self._waiting:
            await self._home.turn()
            group, self._waiting = self._waiting[:GROUP_OPERATIONS], self._waiting[GROUP_OPERATIONS:]
            try:
                answers = await self._commit([_guarded(operation) for operation, _ in group])
            except Exception as error:  # noqa: BLE001 - handed to the callers, who wait for it
                answers = [error] * len(group)
            for (_, done), answer in zip(group, answers, strict=True):
                # A caller whose connection broke has been cancelled, and its future with it.
                with suppress(asyncio.InvalidStateError):
                    if isinstance(answer, Exception):
                        done.set_exception(answer)
                    else:
                        done.set_result(answer)

    async def _commit(self, operations: Sequence[Operation]) -> list[Any]:
        async with self._lock:
            ledger = self._ledger or await self._open()
            try:
                return await ledger.commit(operations)
            except StoreMissingError:
                return await (await self._open_again(ledger)).commit(operations)

    async def _open_again(self, lost: JournalledLedger) -> JournalledLedger:
        _LOG.critical("ledger is gone epoch=%d", lost.epoch)
        self._ledger = None
        return await self._open()

    async def _open(self) -> JournalledLedger:
        terms = self._terms()
        await self._confirm_epoch()
        ledger = await open_ledger(self._home.store, terms, self._clock(), life=secrets.token_hex(8))
        self._ledger = ledger
        self._on_open(ledger.state)
        if any(account.past_unknown for account in ledger.state.accounts.values()):
            _LOG.error("what was spent is unknown; budgets are exhausted until it no longer counts")
        _LOG.info("ledger was opened epoch=%d leases=%d", ledger.epoch, len(ledger.state.leases))
        return ledger


def _guarded(operation: Operation) -> Operation:
    """Keep what is wrong with one operation from failing its group."""

    def run(state: LedgerState) -> tuple[LedgerState, Any]:
        try:
            return operation(state)
        except (UnknownAccountError, ValueError) as error:
            return state, error

    return run
