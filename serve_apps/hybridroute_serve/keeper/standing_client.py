"""The fleet's standing as one router sees it: polled, so that an alarm's action bites within a second.

While the keeper is away the last standing holds: an alarm that was raised stays in force, and a router that has never
heard of any decides as if there were none and promises nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
import msgspec

from hybridroute_api.standing import DriftStanding
from hybridroute_api.vocabulary import InternalHeader

__all__ = ["POLL_SECONDS", "StandingSource"]

_LOG = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""A poll that brings nothing new costs the keeper less than a millisecond."""
_TIMEOUT_SECONDS = 2.0
_STANDINGS = msgspec.json.Decoder(DriftStanding)


class StandingSource:
    """Feeds one router replica."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        keeper_url: str,
        token: str,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._url = keeper_url.rstrip("/") + "/internal/standing"
        self._headers = {InternalHeader.TOKEN.value: token}
        self._sleep = sleep
        self._etag = ""
        self._reached = True
        self._task: asyncio.Task[None] | None = None
        self.standing: DriftStanding | None = None
        """The last one heard of; None before the first."""

    async def start(self) -> None:
        """Begin to poll. Does not wait for the keeper."""
        self._task = asyncio.create_task(self._poll_forever(), name="drift-standing")

    async def stop(self) -> None:
        """Stop polling."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def poll(self) -> None:
        """Ask once. Never raises for a keeper that is away."""
        try:
            reason = await self._fetch()
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError) as error:
            reason = type(error).__name__
        if reason is not None and self._reached:
            _LOG.warning("drift standing was not fetched reason=%s", reason)
        self._reached = reason is None

    async def _poll_forever(self) -> None:
        while True:
            await self.poll()
            await self._sleep(POLL_SECONDS)

    async def _fetch(self) -> str | None:
        """Return why there was no answer, or None."""
        headers = self._headers | ({"if-none-match": self._etag} if self._etag else {})
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with self._session.get(self._url, headers=headers, timeout=timeout) as answer:
            body = await answer.read()
            if answer.status == 200:
                standing = _STANDINGS.decode(body)
                if self.standing is None or standing.alarm != self.standing.alarm:
                    _LOG.warning("drift alarm is now %s artifact=%s", standing.alarm, standing.artifact[:12])
                self.standing, self._etag = standing, answer.headers.get("etag", "")
            return None if answer.status in (200, 304) else f"status_{answer.status}"
