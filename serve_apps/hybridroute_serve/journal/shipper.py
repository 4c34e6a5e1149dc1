"""The task that carries a live replica's journal to the keeper, and its heartbeats.

It reads the journal's files by offset, never more than a batch at once, so a long absence of the keeper costs
disk and no memory. What is not acknowledged is sent again; the keeper knows ids it has seen.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hybridroute_api.records import ReplicaHeartbeat
from hybridroute_serve.journal.journal import Journal
from hybridroute_serve.journal.lines import Closes, encode_batch
from hybridroute_serve.journal.transport import PostBatch, Verdict

__all__ = ["Backoff", "MakeHeartbeat", "Shipper", "ShipperTiming", "Sleep", "post_closes"]

_LOG = logging.getLogger(__name__)

_LOOKS_AFTER_SHIPMENT = 5
"""Most of what a shipment costs replica, ingress and keeper does not depend on what is in it, so one is followed by a
rest of so many intervals, unless something urgent comes.
"""

MakeHeartbeat = Callable[[bool], ReplicaHeartbeat]
"""Called with True for the last one."""
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ShipperTiming:
    """Pace of the shipper."""

    ship_interval_seconds: float = 0.05
    """Between two looks at the journal."""
    heartbeat_interval_seconds: float = 2.0
    adopt_interval_seconds: float = 2.0
    backoff_base_seconds: float = 0.1
    backoff_cap_seconds: float = 5.0
    """A keeper that comes back hears of everything within this."""
    batch_bytes: int = 256 * 1024
    """About 300 requests; decoded by the keeper in 2 ms."""


class Backoff:
    """Full-jitter exponential delays until something works again."""

    def __init__(self, timing: ShipperTiming, random: Callable[[], float]) -> None:
        self._timing = timing
        self._random = random
        self._failures = 0

    def next_seconds(self) -> float:
        """Delay after another failure."""
        ceiling = self._timing.backoff_base_seconds * 2.0 ** min(self._failures, 16)
        self._failures += 1
        return min(ceiling, self._timing.backoff_cap_seconds) * self._random()

    def reset(self) -> None:
        """Start over after a success."""
        self._failures = 0


class Shipper:
    """Ships one journal. `run` until cancelled; `finish` once afterwards."""

    def __init__(
        self,
        journal: Journal,
        post: PostBatch,
        make_heartbeat: MakeHeartbeat,
        *,
        timing: ShipperTiming,
        monotonic: Callable[[], float],
        random: Callable[[], float],
        sleep: Sleep,
    ) -> None:
        self._journal = journal
        self._post = post
        self._make_heartbeat = make_heartbeat
        self._timing = timing
        self._monotonic = monotonic
        self._sleep = sleep
        self._backoff = Backoff(timing, random)
        self._next_heartbeat_at = float("-inf")
        self._has_sent = False
        self.refused_lines = 0

    async def run(self) -> None:
        """Ship for ever."""
        while True:
            self._has_sent = False
            verdict = await self.ship_once()
            if verdict is Verdict.AWAY:
                await self._sleep(self._backoff.next_seconds())
                continue
            self._backoff.reset()
            if self._journal.unshipped_bytes < self._timing.batch_bytes:
                await self._rest()

    async def _rest(self) -> None:
        """Wait before the next look; longer after a shipment, so that what a busy replica reports travels together."""
        for _ in range(_LOOKS_AFTER_SHIPMENT if self._has_sent else 1):
            await self._sleep(self._timing.ship_interval_seconds)
            if self._journal.is_urgent:
                return

    async def ship_once(self) -> Verdict:
        """Send the next batch and the heartbeat if one is due. ACCEPTED when there was nothing to send."""
        self._journal.retry_unwritten()
        self._journal.is_urgent = False
        pending = self._journal.peek_pending(self._timing.batch_bytes)
        now = self._monotonic()
        heartbeats = [self._make_heartbeat(False)] if now >= self._next_heartbeat_at else []
        closes = pending.closes if pending is not None else Closes()
        if heartbeats or closes:
            self._has_sent = True
            verdict = await self._send(closes, heartbeats)
            if verdict is not Verdict.ACCEPTED:
                return verdict
        if pending is not None:
            self._journal.mark_shipped(pending)
        if heartbeats:
            self._next_heartbeat_at = now + self._timing.heartbeat_interval_seconds
            self._journal.rotate_used()
        return Verdict.ACCEPTED

    async def finish(self) -> bool:
        """Send what is left and the last heartbeat; False when the keeper is away and a successor must."""
        while self._journal.unshipped_bytes:
            if await self.ship_once() is not Verdict.ACCEPTED:
                return False
        last = encode_batch(self._journal.owner.replica, Closes(), [self._make_heartbeat(True)])
        return await self._post(last) is Verdict.ACCEPTED

    async def _send(self, closes: Closes, heartbeats: list[ReplicaHeartbeat]) -> Verdict:
        replica = self._journal.owner.replica
        verdict = await self._post(encode_batch(replica, closes, heartbeats))
        if verdict is not Verdict.REFUSED:
            return verdict
        if heartbeats:
            await self._post(encode_batch(replica, Closes(), heartbeats))
        verdict, refused = await post_closes(self._post, replica, closes.singles())
        self.refused_lines += refused
        return verdict


async def post_closes(post: PostBatch, replica: str, batches: list[Closes]) -> tuple[Verdict, int]:
    """Send batches in turn; what the keeper refuses for good is counted and logged, not sent for ever."""
    refused = 0
    for closes in batches:
        verdict = await post(encode_batch(replica, closes))
        if verdict is Verdict.AWAY:
            return verdict, 0
        if verdict is Verdict.REFUSED:
            refused += len(closes.records) + len(closes.attempts)
    if refused:
        _LOG.error("keeper refused journal lines replica=%s lines=%d", replica, refused)
    return Verdict.ACCEPTED, refused
