"""Clocks that tests turn."""

import asyncio
import time
from dataclasses import dataclass, field

__all__ = ["JumpingClock", "TurnedClock"]


class TurnedClock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 100_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class JumpingClock:
    """Real time, but whoever sleeps by it wakes at once and finds that the time has passed."""

    slept: list[float] = field(default_factory=list)
    held: asyncio.Event | None = None
    """Sleepers wait for it, if it is there."""
    _ahead_seconds: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead_seconds

    def jump(self, seconds: float) -> None:
        self._ahead_seconds += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.held is not None:
            await self.held.wait()
        await asyncio.sleep(0)
        self.jump(seconds)
