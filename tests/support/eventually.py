"""Waits for what other tasks and processes bring about."""

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["eventually"]


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    """Ask until it holds; fails after some seconds, which no passing test needs."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - what it waits for is in other processes, too
            await asyncio.sleep(0.01)
