"""The port behind which the ledger is stored: one small document, one writer, fenced by an epoch.

`acquire` makes the caller the only writer: it raises the epoch, and every later `save` under an earlier one
fails, so a keeper that was replaced can grant nothing more. A save also names the version it replaces. A store
that is missing is not an empty one: money may have been spent, see `journalled.open_ledger`. Adapters:
`sqlite_store`, and `hybridroute_serve.keeper.config_map_store` with compare-and-swap.
"""

from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "FencedError",
    "Held",
    "LedgerStore",
    "StoreExistsError",
    "StoreMissingError",
    "StoreUnavailableError",
    "StoreUnusedError",
]


class StoreMissingError(Exception):
    """There is no document, or none that can be read: what was spent is unknown."""


class StoreUnusedError(StoreMissingError):
    """There is no document yet, and whoever made the store says that nothing was ever spent."""


class StoreUnavailableError(OSError):
    """The store does not answer now: it is not known whether it was written."""


class StoreExistsError(Exception):
    """A document is there already and is not overwritten."""


class FencedError(Exception):
    """Another keeper has taken over. This one must not grant anything more."""


@dataclass(frozen=True, slots=True)
class Held:
    """The document as its only writer holds it."""

    epoch: int
    version: int
    document: bytes


class LedgerStore(Protocol):
    """Where the ledger's document lives. Any other exception means: unknown whether it was written."""

    async def create(self, document: bytes) -> None:
        """Write the first document, durably. Raises `StoreExistsError`."""

    async def acquire(self) -> Held:
        """Become the writer. Raises `StoreMissingError`."""

    async def load(self, epoch: int) -> Held:
        """Read the document again. Raises `FencedError` and `StoreMissingError`."""

    async def save(self, held: Held, document: bytes) -> Held:
        """Replace the document that is held, durably. Raises `FencedError`, `StoreMissingError`."""
