"""Batches over HTTP to the keeper, and what its answer means for the sender."""

import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from pathlib import Path

import aiohttp

from hybridroute_api.vocabulary import InternalHeader
from hybridroute_serve.turning_session import TurningSession

__all__ = ["BATCH_PATH", "KeeperTransport", "PostBatch", "Verdict"]

_LOG = logging.getLogger(__name__)

BATCH_PATH = "/internal/batch"
POST_SECONDS = 10.0
"""A keeper commits within 100 ms; past this it hangs, and the batch is sent again (it knows the ids)."""


class Verdict(Enum):
    """What became of a batch."""

    ACCEPTED = "accepted"
    """Durable in the keeper."""
    REFUSED = "refused"
    """The keeper cannot read it and never will."""
    AWAY = "away"
    """Not reached, not ready or not trusted: to be sent again."""


PostBatch = Callable[[bytes], Awaitable[Verdict]]


class KeeperTransport:
    """Posts batches. The token is read from its file, again after each 401, so that it can be rotated."""

    def __init__(self, sessions: TurningSession, keeper_url: str, token_file: Path) -> None:
        self._sessions = sessions
        self._url = keeper_url.rstrip("/") + BATCH_PATH
        self._token_file = token_file
        self._token: str | None = None
        self._reached = True

    async def post_batch(self, body: bytes) -> Verdict:
        """Send one encoded batch. Never raises for a keeper that is away."""
        try:
            status = await self._post(body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return self._note_away(type(error).__name__)
        if status == 200:
            self._reached = True
            return Verdict.ACCEPTED
        if status in (400, 413, 422):
            return Verdict.REFUSED
        if status == 401:
            self._token = None
        return self._note_away(f"status_{status}")

    async def _post(self, body: bytes) -> int:
        if self._token is None:
            self._token = self._token_file.read_text().strip()
        headers = {InternalHeader.TOKEN.value: self._token, "content-type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=POST_SECONDS)
        async with (
            self._sessions.borrow() as session,
            session.post(self._url, data=body, headers=headers, timeout=timeout) as answer,
        ):
            await answer.read()
            return answer.status

    def _note_away(self, reason: str) -> Verdict:
        if self._reached:
            _LOG.warning("keeper was not reached reason=%s", reason)
        self._reached = False
        return Verdict.AWAY
