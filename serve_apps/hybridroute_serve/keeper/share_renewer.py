"""Keeps a replica's retry bucket supplied with its share of the route's budget (`retries.shares`).

One request at a time, numbered; an answer that came too late is never taken, since the request was abandoned. A
lease counts from the moment its request was sent, so that it ends here before the keeper lends it to others.
Each request carries what the replica has seen of upstreams, each answer what the others have (`retries.sightings`):
a new replica asks before its first request, and one whose view has turned asks again at once.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import aiohttp
import msgspec

from hybridroute_serve.keeper.budget_messages import (
    SHARE_LEAVE_PATH,
    SHARES_PATH,
    ShareAnswer,
    ShareCall,
    ShareLeaving,
)
from hybridroute_serve.keeper.calls import KeeperAwayError, KeeperCalls, stop_task
from hybridroute_serve.retries.bucket import BucketShare, RetryBucket
from hybridroute_serve.retries.shares import HeldShare, ShareRequest
from hybridroute_serve.retries.sightings import Sighting, UpstreamPlace

__all__ = ["ShareRenewer", "UpstreamNews"]

_LOG = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
LOOK_SECONDS = 0.25
"""How often a replica asks itself whether it has news for the others."""
_NO_SHARE = BucketShare(floor_tokens_per_second=0.0, cap_tokens=0.0, expires_at=0.0)
_ANSWERS = msgspec.json.Decoder(ShareAnswer)


class UpstreamNews(Protocol):
    """Whoever knows the replica's upstreams."""

    def sightings(self) -> tuple[Sighting, ...]:
        """Return what the replica has lately seen itself."""

    def hear(self, down: tuple[UpstreamPlace, ...]) -> None:
        """Take what the others have found down; it replaces what was heard before."""


class ShareRenewer:
    """One replica's share. Start it with the replica, stop it after the last attempt."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        keeper_url: str,
        token: str,
        bucket: RetryBucket,
        replica: str,
        *,
        news: UpstreamNews,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`replica`: unique to this incarnation of the process. `monotonic`: the bucket's clock."""
        self._calls = KeeperCalls(session, keeper_url, token, monotonic)
        self._bucket = bucket
        self._news = news
        self._told: tuple[Sighting, ...] = ()
        self._replica = replica
        self._monotonic = monotonic
        self._sleep = sleep
        self._sequence = 0
        self._held: HeldShare | None = None
        self._held_until = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask once, so that the first request meets what the others know, then renew in the background.

        A keeper that is away is waited for no longer than one call may take.
        """
        wait_seconds = await self.renew()
        self._task = asyncio.create_task(self._run(wait_seconds), name="retry-share")

    async def stop(self) -> None:
        """Empty the bucket's share and give it back."""
        await stop_task(self._task)
        self._bucket.apply_share(_NO_SHARE, self._monotonic())
        try:
            await self._calls.post(SHARE_LEAVE_PATH, ShareLeaving(self._replica))
        except KeeperAwayError:
            _LOG.info("share was not given back and runs out replica=%s", self._replica)

    async def renew(self) -> float:
        """Ask once; return the seconds until the next time. Never raises for a keeper that is away."""
        sent_at = self._monotonic()
        self._sequence += 1
        held = self._held if sent_at < self._held_until else None
        self._told = self._news.sightings()
        call = ShareCall(ShareRequest(self._replica, self._sequence, held), self._told)
        try:
            body = await self._calls.post(SHARES_PATH, call)
            if body is None:
                return RETRY_SECONDS
            answer = _ANSWERS.decode(body)
        except (KeeperAwayError, msgspec.MsgspecError):
            return RETRY_SECONDS
        self._news.hear(answer.down)
        grant = answer.grant
        self._held = HeldShare(grant.serial, grant.share)
        self._held_until = sent_at + grant.lease_seconds
        share = BucketShare(grant.share.floor_tokens_per_second, grant.share.cap_tokens, self._held_until)
        self._bucket.apply_share(share, self._monotonic())
        return grant.renew_after_seconds

    async def _run(self, wait_seconds: float) -> None:
        while True:
            due_at = self._monotonic() + wait_seconds
            while (left_seconds := due_at - self._monotonic()) > 0 and self._news.sightings() == self._told:
                await self._sleep(min(LOOK_SECONDS, left_seconds))
            wait_seconds = await self.renew()
