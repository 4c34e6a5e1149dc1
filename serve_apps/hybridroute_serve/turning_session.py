"""A pooled HTTP session whose connections are given up after a while, though they still work.

A connection through a Kubernetes Service leads, for as long as it lives, to the pod that it was opened to. While
another Ray cluster takes over, in a surge or an upgrade, one that is never idle would go on asking the old one until
that ends, and break there. Used by the router on its way to the paths, and by replicas on their way to the keeper.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

__all__ = ["TURN_SECONDS", "TurningSession"]

TURN_SECONDS: Final = 30.0
"""Far shorter than an old cluster is kept, and far longer than a connection takes to open."""


@dataclass(slots=True)
class _Held:
    session: aiohttp.ClientSession
    made_at: float
    borrowers: int = 0


class TurningSession:
    """Lends a session to each request, a new one after `TURN_SECONDS`. What is under way ends where it began."""

    def __init__(
        self,
        make: Callable[[], aiohttp.ClientSession],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        seconds: float = TURN_SECONDS,
    ) -> None:
        self._make = make
        self._monotonic = monotonic
        self._seconds = seconds
        self._current: _Held | None = None
        self._left: list[_Held] = []

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Lend the session for one request, until its answer has been read."""
        held = self._turn()
        held.borrowers += 1
        try:
            yield held.session
        finally:
            held.borrowers -= 1
            if self._left:
                await self._close_left()

    async def close(self) -> None:
        """Close every connection, those in use too."""
        held = [*self._left, *([self._current] if self._current is not None else [])]
        self._left, self._current = [], None
        for each in held:
            await each.session.close()

    def _turn(self) -> _Held:
        now = self._monotonic()
        current = self._current
        if current is None or now >= current.made_at + self._seconds:
            if current is not None:
                self._left.append(current)
            current = self._current = _Held(self._make(), now)
        return current

    async def _close_left(self) -> None:
        idle = [held for held in self._left if not held.borrowers]
        self._left = [held for held in self._left if held.borrowers]
        for held in idle:
            await held.session.close()
