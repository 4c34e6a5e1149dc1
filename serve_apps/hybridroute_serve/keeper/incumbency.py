"""Whose gateway the route's Service leads to: this keeper's, or that of another that has taken over.

While a gateway is upgraded two of them run, the old one for an hour after the Service has turned away from it. Clients
that never let their connection rest would stay with it, so its keeper asks the Service who answers there, by a fresh
connection each time. Having been the one and being it no more, the keeper is to be replaced: a replica that goes makes
HAProxy start anew, and the HAProxy of before ends each client's connection politely, after an answer. A keeper that the
Service does not lead to takes no ledger over. Not used on one machine, where no Service is.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
import msgspec

__all__ = ["HEALTH_PATH", "LOOK_SECONDS", "PATIENCE_SECONDS", "Incumbency", "NotLeadingError", "ask_service"]

_LOG = logging.getLogger(__name__)

HEALTH_PATH: Final = "/healthz"
LOOK_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 4.0
"""Replicas of a gateway that is on its way ask for money at once: their call waits for the turn, and then for the
ledger, within the 5 s of `calls`.
"""
_ASK_AGAIN_SECONDS: Final = 0.2
_LOOKS_UNTIL_SURE: Final = 2
_TIMEOUT: Final = aiohttp.ClientTimeout(total=2.0)


class NotLeadingError(Exception):
    """The Service leads to another keeper, whose the ledger is."""


Ask = Callable[[], Awaitable[str | None]]
"""Returns the name of the keeper that the Service leads to; None when nobody says."""


class Incumbency:
    """One keeper's view. `name` is what it answers with when it is asked itself."""

    def __init__(
        self, ask: Ask, *, monotonic: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self.name = secrets.token_hex(8)
        self._ask = ask
        self._monotonic = monotonic
        self._sleep = sleep
        self._was_here = False
        self._elsewhere = 0

    @property
    def has_passed(self) -> bool:
        """Whether the Service led here, and has turned to another."""
        return self._was_here and self._elsewhere >= _LOOKS_UNTIL_SURE

    async def look(self) -> None:
        """Ask once. No answer says nothing."""
        said = await self._ask()
        if said is None:
            return
        if said == self.name:
            self._was_here, self._elsewhere = True, 0
            return
        self._elsewhere += 1
        if self._was_here and self._elsewhere == _LOOKS_UNTIL_SURE:
            _LOG.warning("another gateway has taken over keeper=%s", said)

    async def is_elsewhere(self) -> bool:
        """Say, after some patience, whether the Service leads to another keeper."""
        deadline = self._monotonic() + PATIENCE_SECONDS
        while (said := await self._ask()) is not None and said != self.name:
            if self._monotonic() >= deadline:
                return True
            await self._sleep(_ASK_AGAIN_SECONDS)
        return False

    async def watch(self) -> None:
        """Look on and on."""
        while True:
            await self.look()
            await self._sleep(LOOK_SECONDS)


def ask_service(url: str) -> Ask:
    """Return how to ask the keeper behind a Service's URL; each time by a connection of its own."""

    async def ask() -> str | None:
        connector = aiohttp.TCPConnector(force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
                session.get(url + HEALTH_PATH) as answer,
            ):
                told = msgspec.json.decode(await answer.read())
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, msgspec.DecodeError):
            return None
        name = told.get("keeper") if isinstance(told, dict) else None
        return name if isinstance(name, str) else None

    return ask
