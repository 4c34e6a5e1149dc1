"""How long records are kept: by age and by size, the oldest first, in small transactions between the commits.

Totals are not touched, so costs and metrics outlive the records.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from hybridroute_api.serving import RecordsPolicy

__all__ = ["RESEND_SECONDS", "Prunable", "enforce_retention"]

RESEND_SECONDS = 900.0
"""Records this young stay whatever their size: their replica may send them again, and a record that has been
forgotten would be counted twice. Journals are rotated every few seconds, so 15 minutes is ample."""
CHUNK = 500
"""Requests deleted in one transaction: about 20 ms, during which commits wait."""


class Prunable(Protocol):
    """The store, as far as retention needs it."""

    def prune(self, max_age_seconds: float, keep_seconds: float, limit: int, *, full: bool) -> int:
        """Delete the oldest; see `Store.prune`."""
        ...

    def used_bytes(self) -> int:
        """Return the size of what is stored."""
        ...


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went."""

    by_age: int = 0
    by_size: int = 0


async def enforce_retention(
    store: Prunable, policy: RecordsPolicy, run: Callable[[Callable[[], int]], Awaitable[int]]
) -> Pruned:
    """Delete what is too old, then the oldest while the rest is too large. `run` calls in the store's thread."""

    async def delete(*, full: bool) -> int:
        return await run(lambda: store.prune(policy.max_age_seconds, RESEND_SECONDS, CHUNK, full=full))

    by_age = by_size = 0
    while gone := await delete(full=False):
        by_age += gone
        await asyncio.sleep(0)
    while await run(store.used_bytes) > policy.max_bytes and (gone := await delete(full=True)):
        by_size += gone
        await asyncio.sleep(0)
    return Pruned(by_age, by_size)
