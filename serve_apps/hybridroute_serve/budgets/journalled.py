"""The ledger with its store: every change is stored before its answer leaves.

`commit` applies operations of `ledger` to the state in hand, saves the outcome, and only then hands the answers
back; one save serves a whole group. What fails is not adopted: after a failed save the document is read again
before anything else, because nobody knows whether it was written. One caller at a time. Used by the keeper.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from hybridroute_serve.budgets.accounts import AccountTerms
from hybridroute_serve.budgets.ledger import LedgerState, change_terms, exhausted_ledger, fresh_ledger
from hybridroute_serve.budgets.store import (
    FencedError,
    Held,
    LedgerStore,
    StoreExistsError,
    StoreMissingError,
    StoreUnusedError,
)

__all__ = ["JournalledLedger", "Operation", "create_ledger", "decode_ledger", "encode_ledger", "open_ledger"]

_T = TypeVar("_T")
Operation = Callable[[LedgerState], tuple[LedgerState, Any]]
"""Such as `lambda state: reserve(state, claim, now_unix)`."""

_DECODER = msgspec.json.Decoder(LedgerState)


def encode_ledger(state: LedgerState) -> bytes:
    """Return the document of a state."""
    return msgspec.json.encode(state)


def decode_ledger(document: bytes) -> LedgerState:
    """Read a document. Raises `msgspec.DecodeError`."""
    return _DECODER.decode(document)


class JournalledLedger:
    """The ledger of the keeper that holds the epoch."""

    __slots__ = ("_fenced", "_held", "_is_sure", "_state", "_store")

    def __init__(self, store: LedgerStore, held: Held) -> None:
        self._store = store
        self._held = held
        self._state = decode_ledger(held.document)
        self._is_sure = True
        self._fenced = False

    @property
    def state(self) -> LedgerState:
        """The state as it is stored, for status, metrics and `Expiries`."""
        return self._state

    @property
    def epoch(self) -> int:
        """The epoch under which it is held."""
        return self._held.epoch

    async def commit(self, operations: Sequence[Operation]) -> list[Any]:
        """Apply operations in order, store the outcome, return their answers.

        Raises `FencedError` for good once another keeper has taken over, `StoreMissingError` while the store
        is gone, and what the store raises when it is not known to have saved.
        """
        if self._fenced:
            raise FencedError(f"epoch {self._held.epoch} was replaced")
        try:
            if not self._is_sure:
                self._adopt(await self._store.load(self._held.epoch))
            state, answers = self._state, []
            for operation in operations:
                state, answer = operation(state)
                answers.append(answer)
            if state != self._state:
                self._is_sure = False
                self._adopt(await self._store.save(self._held, encode_ledger(state)))
        except FencedError:
            self._fenced = True
            raise
        return answers

    async def confirm(self) -> None:
        """Make sure that the store is there and still this keeper's; raises as `commit` does."""
        try:
            self._adopt(await self._store.load(self._held.epoch))
        except FencedError:
            self._fenced = True
            raise

    def _adopt(self, held: Held) -> None:
        self._held = held
        self._state = decode_ledger(held.document)
        self._is_sure = True


async def create_ledger(
    store: LedgerStore, terms: Mapping[str, AccountTerms], now_unix: float, *, life: str
) -> None:
    """Make the store of a route that has never run. Whoever creates the route does this, once.

    `life`: a new random name. Raises `StoreExistsError`.
    """
    await store.create(encode_ledger(fresh_ledger(life, terms, now_unix)))


async def open_ledger(
    store: LedgerStore, terms: Mapping[str, AccountTerms], now_unix: float, *, life: str
) -> JournalledLedger:
    """Become the ledger's only keeper. A store that is missing means exhausted, never zero spent.

    `life`: a new random name, used if the store is missing or was never used.
    """
    try:
        held = await store.acquire()
    except StoreUnusedError:
        # Two keepers may begin it at once; the one that comes second finds it begun.
        with suppress(StoreExistsError):
            await create_ledger(store, terms, now_unix, life=life)
        held = await store.acquire()
    except StoreMissingError:
        await store.create(encode_ledger(exhausted_ledger(life, terms, now_unix)))
        held = await store.acquire()
    ledger = JournalledLedger(store, held)
    await ledger.commit([lambda state: (change_terms(state, terms, now_unix), None)])
    return ledger
