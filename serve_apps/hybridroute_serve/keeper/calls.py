"""A replica's calls to the keeper's budget endpoints, and how it notices that the keeper is away.

A call that fails makes the next half second's fail at once, and then one at a time is let through: a keeper that
hangs must not hang every request with it. Nothing is sent twice here; callers know what may be repeated.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec

from hybridroute_api.vocabulary import ErrorCode, InternalHeader
from hybridroute_serve.budgets.ledger import UnknownAccountError

__all__ = ["KeeperAwayError", "KeeperCalls", "KeeperWaitsError", "stop_task"]

_LOG = logging.getLogger(__name__)

CALL_SECONDS = 5.0
"""A request may wait for the answer. In a cluster the ledger is written once a second: a call that just missed a write
waits for the end of that one and of the next, on an API server that may be busy.
"""
AWAY_SECONDS = 0.5


class KeeperAwayError(Exception):
    """No answer, or none that counts: nobody knows whether the call was heard."""


class KeeperWaitsError(KeeperAwayError):
    """It is there, and not the one yet: the gateway is on its way. Asked again, its answer waits for the turn."""


class KeeperCalls:
    """One replica's way to the keeper."""

    def __init__(
        self, session: aiohttp.ClientSession, keeper_url: str, token: str, monotonic: Callable[[], float]
    ) -> None:
        self._session = session
        self._base_url = keeper_url.rstrip("/")
        self._headers = {InternalHeader.TOKEN.value: token, "content-type": "application/json"}
        self._monotonic = monotonic
        self._is_away = False
        self._away_until = float("-inf")
        self._probing = False

    @property
    def is_away(self) -> bool:
        """Whether a call now would fail without being sent."""
        return self._is_away and (self._probing or self._monotonic() < self._away_until)

    async def post(self, path: str, body: Any) -> bytes | None:
        """Return the answer's body, None for 204. Errors: KeeperAwayError, UnknownAccountError."""
        if self.is_away:
            raise KeeperAwayError("the keeper did not answer lately")
        probes = self._probing = self._is_away
        try:
            answer = await self._send(path, msgspec.json.encode(body))
        except KeeperWaitsError:
            self._is_away = False
            raise
        except (aiohttp.ClientError, TimeoutError, OSError, KeeperAwayError) as error:
            self._note_away(str(error) or type(error).__name__)
            raise KeeperAwayError(type(error).__name__) from error
        finally:
            if probes:
                self._probing = False
        if self._is_away:
            _LOG.info("keeper is back")
        self._is_away = False
        return answer

    async def _send(self, path: str, body: bytes) -> bytes | None:
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        async with self._session.post(
            f"{self._base_url}{path}", data=body, headers=self._headers, timeout=timeout
        ) as response:
            answer = await response.read()
        if response.status == 204:
            return None
        if response.status == 404 and ErrorCode.ACCOUNT_NOT_FOUND.encode() in answer:
            raise UnknownAccountError
        if response.status == 503 and ErrorCode.KEEPER_NOT_LEADING.encode() in answer:
            raise KeeperWaitsError("another gateway's keeper leads")
        if response.status != 200:
            raise KeeperAwayError(f"status {response.status}")
        return answer

    def _note_away(self, reason: str) -> None:
        if not self._is_away:
            _LOG.warning("keeper is away reason=%s", reason)
        self._is_away = True
        self._away_until = self._monotonic() + AWAY_SECONDS


async def stop_task(task: asyncio.Task[None] | None) -> None:
    """Cancel a background task and wait until it has ended."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
