"""Settlements of reservations that the keeper itself holds: sent until the keeper has heard them, in the background.

Saying one twice changes nothing. What is never said because this process dies, the keeper learns from its journal.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hybridroute_serve.keeper.budget_messages import SETTLEMENTS_PATH, SettlementNote
from hybridroute_serve.keeper.calls import KeeperAwayError, KeeperCalls, stop_task

__all__ = ["SettlementQueue"]

AT_ONCE = 32
"""Sent together, so that the keeper stores them together."""
RETRY_SECONDS = 0.25


class SettlementQueue:
    """What the keeper has not heard yet."""

    def __init__(self, calls: KeeperCalls, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._calls = calls
        self._sleep = sleep
        self._notes: dict[str, SettlementNote] = {}
        self._task: asyncio.Task[None] | None = None

    def put(self, attempt_id: str, billed_nano_usd: int | None) -> None:
        """Take a settlement; returns at once."""
        self._notes[attempt_id] = SettlementNote(attempt_id, billed_nano_usd)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="dollar-settlements")

    async def stop(self, seconds: float) -> None:
        """Try to send what is left for so long, then give up."""
        if self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._task), seconds)
        await stop_task(self._task)

    async def _run(self) -> None:
        try:
            while self._notes:
                batch = list(self._notes.values())[:AT_ONCE]
                heard = await asyncio.gather(*map(self._send, batch))
                if not all(heard):
                    await self._sleep(RETRY_SECONDS)
        finally:
            self._task = None

    async def _send(self, note: SettlementNote) -> bool:
        try:
            await self._calls.post(SETTLEMENTS_PATH, note)
        except KeeperAwayError:
            return False
        del self._notes[note.attempt_id]
        return True
