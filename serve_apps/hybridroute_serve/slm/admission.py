"""How many requests a replica takes, and how many of them the engine works on at once.

Requests beyond the engine's batch wait here and not in the engine: one that is cancelled while it waits has cost
nothing, where the engine would first read its prompt.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Admission", "OverloadedError"]


class OverloadedError(Exception):
    """The replica is full, or the engine stayed busy for as long as the request may wait."""


class Admission:
    """The places of one replica. `limit` requests are admitted; `engine_places` of them are worked on."""

    def __init__(self, *, limit: int, engine_places: int) -> None:
        self._limit = limit
        self._places = asyncio.Semaphore(engine_places)
        self.ongoing = 0
        """Admitted requests: worked on or waiting."""

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Hold one of the admitted requests. Raises `OverloadedError` at once when there is none left."""
        if self.ongoing >= self._limit:
            raise OverloadedError
        self.ongoing += 1
        try:
            yield
        finally:
            self.ongoing -= 1

    @asynccontextmanager
    async def take_place(self, patience_seconds: float) -> AsyncIterator[None]:
        """Wait in order of arrival for a place in the engine. Raises `OverloadedError` when none comes free in time."""
        try:
            async with asyncio.timeout(patience_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise OverloadedError from None
        try:
            yield
        finally:
            self._places.release()
