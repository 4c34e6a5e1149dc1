"""The ledger's store in one ConfigMap of a cluster: compare-and-swap by its resource version, one write a second.

Totals and leases, never records. The operator makes the ConfigMap, since making objects is no right of a keeper: with
`past: none` for a route that has never run, with `past: unknown` in place of one that was lost. Entries that do not
fit together, such as after an edit by hand, are a missing store. What a keeper gave up on may still arrive; the epoch
is then its own and the version is not, and it reads again.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hybridroute_serve.budgets.store import (
    FencedError,
    Held,
    StoreExistsError,
    StoreMissingError,
    StoreUnavailableError,
    StoreUnusedError,
)
from hybridroute_serve.keeper.api_server import ApiConflictError, ApiTroubleError

__all__ = ["WRITE_SECONDS", "ConfigMapLedgerStore", "ConfigMapPort"]

WRITE_SECONDS: Final = 1.0
"""Between two writes at least; what comes meanwhile goes together."""

_DOCUMENT: Final = "ledger.json"
_PAST: Final = "past"
_UNUSED: Final = "none"
_TRIES: Final = 5
"""Others may write the object's metadata between our read and our write, but hardly so often."""


class ConfigMapPort(Protocol):
    """What `api_server.ConfigMap` does; tests keep one in memory."""

    async def read(self) -> Any:
        """Return the document, or None."""

    async def patch(self, resource_version: str, entries: Mapping[str, str | None]) -> Any:
        """Change entries if the version is still this one."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """The ConfigMap as it was last seen."""

    resource_version: str
    held: Held | None
    """None for entries that do not fit together."""
    unused: bool


class ConfigMapLedgerStore:
    """`budgets.store.LedgerStore` in a ConfigMap."""

    def __init__(
        self,
        config_map: ConfigMapPort,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._config_map = config_map
        self._monotonic = monotonic
        self._sleep = sleep
        self._next_write = float("-inf")
        self._seen: _Stored | None = None

    async def turn(self) -> None:
        """Return when the next write may be sent."""
        while (wait := self._next_write - self._monotonic()) > 0:
            await self._sleep(wait)

    async def peek(self) -> bytes:
        """Return the document without becoming its writer. Raises `StoreMissingError`, `StoreUnusedError`."""
        return _held(await self._read()).document

    async def create(self, document: bytes) -> None:
        """Write the first document. Raises `StoreExistsError`."""
        for _ in range(_TRIES):
            stored = await self._read()
            if stored is None:
                raise StoreUnavailableError("the ledger's ConfigMap does not exist; the operator makes it")
            if stored.held is not None:
                raise StoreExistsError("the ConfigMap holds a ledger")
            if await self._write(stored, Held(0, 0, document)):
                return
        raise _contended()

    async def acquire(self) -> Held:
        """Become the writer. Raises `StoreMissingError`."""
        for _ in range(_TRIES):
            stored = await self._read()
            found = _held(stored)
            held = Held(found.epoch + 1, found.version, found.document)
            if await self._write(stored, held):
                return held
        raise _contended()

    async def load(self, epoch: int) -> Held:
        """Read the document again. Raises `FencedError` and `StoreMissingError`."""
        found = _held(await self._read())
        if found.epoch != epoch:
            raise FencedError(f"epoch {found.epoch} has replaced {epoch}")
        return found

    async def save(self, held: Held, document: bytes) -> Held:
        """Replace the document that is held. Raises `FencedError` and `StoreMissingError`."""
        new = Held(held.epoch, held.version + 1, document)
        stored = self._seen
        for _ in range(_TRIES):
            if stored is None or stored.held is None:
                stored = await self._read()
            found = _held(stored)
            if found.epoch != held.epoch:
                raise FencedError(f"epoch {found.epoch} has replaced {held.epoch}")
            if found.version != held.version:
                self._seen = None
                raise StoreUnavailableError(f"version {found.version} is stored, not {held.version}")
            if await self._write(stored, new):
                return new
            stored = None
        raise _contended()

    async def _read(self) -> _Stored | None:
        self._seen = None
        try:
            document = await self._config_map.read()
        except ApiTroubleError as error:
            raise StoreUnavailableError(str(error)) from error
        self._seen = None if document is None else _parse(document)
        return self._seen

    async def _write(self, stored: _Stored | None, held: Held) -> bool:
        """Replace what is stored; return False when somebody else wrote meanwhile."""
        assert stored is not None  # noqa: S101 - callers have read it
        await self.turn()
        self._next_write = self._monotonic() + WRITE_SECONDS
        self._seen = None
        try:
            document = await self._config_map.patch(stored.resource_version, _entries(held))
        except ApiConflictError:
            return False
        except ApiTroubleError as error:
            raise StoreUnavailableError(str(error)) from error
        if document is None:
            raise StoreMissingError("the ledger's ConfigMap is gone")
        self._seen = _parse(document)
        return True


def _parse(document: Any) -> _Stored:
    data = document.get("data") or {}
    version = str(document["metadata"]["resourceVersion"])
    try:
        held = Held(int(data["epoch"]), int(data["version"]), data[_DOCUMENT].encode())
    except (KeyError, ValueError):
        return _Stored(version, None, unused=_DOCUMENT not in data and data.get(_PAST) == _UNUSED)
    return _Stored(version, held if data.get("digest") == _digest(held) else None, unused=False)


def _held(stored: _Stored | None) -> Held:
    if stored is not None and stored.held is not None:
        return stored.held
    if stored is not None and stored.unused:
        raise StoreUnusedError("the ledger has not begun")
    raise StoreMissingError("the ConfigMap holds no ledger" if stored else "there is no ConfigMap")


def _entries(held: Held) -> dict[str, str | None]:
    return {
        _PAST: None,
        "epoch": str(held.epoch),
        "version": str(held.version),
        "digest": _digest(held),
        _DOCUMENT: held.document.decode(),
    }


def _digest(held: Held) -> str:
    return hashlib.sha256(f"{held.epoch}.{held.version}.".encode() + held.document).hexdigest()[:16]


def _contended() -> StoreUnavailableError:
    return StoreUnavailableError("the ledger's ConfigMap is written by others all the time")
