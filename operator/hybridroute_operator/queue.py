"""One coalescing queue of routes: causes that come together are one round, and no route has two rounds at once.

A round that failed is tried again with back-off; a route that was looked at is looked at again when its round says so.
So nothing is lost when an event is: every route comes by on its own.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from hybridroute_operator.errors import OperatorError
from hybridroute_operator.observation import RouteKey
from hybridroute_operator.reconcile import Round

__all__ = ["RouteQueue"]

_LOG = logging.getLogger(__name__)

_MOST_SECONDS: Final = 60.0
_ROUNDS_AT_ONCE: Final = 8
"""Rounds wait for the API server; more at once would only be throttled."""


class RouteQueue:
    """Runs rounds. `on_round` gets seconds and outcome of each, for metrics."""

    def __init__(
        self,
        reconcile: Callable[[RouteKey], Awaitable[Round]],
        *,
        on_round: Callable[[float, str], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._reconcile = reconcile
        self._on_round = on_round
        self._jitter = jitter
        self._wanted: set[RouteKey] = set()
        self._tasks: dict[RouteKey, asyncio.Task[None]] = {}
        self._timers: dict[RouteKey, asyncio.TimerHandle] = {}
        self._failures: dict[RouteKey, int] = {}
        self._slots = asyncio.Semaphore(_ROUNDS_AT_ONCE)

    def add(self, key: RouteKey) -> None:
        """Ask for a round of the route; soon, once, however often it is asked."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._wanted.add(key)
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._work(key), name=f"route {key}")

    async def stop(self) -> None:
        """Let no further round begin, and wait for those under way to be interrupted."""
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, key: RouteKey) -> None:
        again: float | None = None
        try:
            while key in self._wanted:
                async with self._slots:
                    self._wanted.discard(key)
                    again = await self._run_round(key)
        finally:
            del self._tasks[key]
        if again is not None:
            self._timers[key] = asyncio.get_running_loop().call_later(again, self.add, key)

    async def _run_round(self, key: RouteKey) -> float | None:
        """Do one round; return when the next is due."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            done = await self._reconcile(key)
        except OperatorError as error:
            self._on_round(loop.time() - began, error.reason)
            _LOG.warning("round failed route=%s reason=%s error=%s", key, error.reason, error)
            return self._back_off(key, error.retry_seconds)
        except Exception:  # noqa: BLE001 - a fault of ours in one route must not end the others
            self._on_round(loop.time() - began, "Fault")
            _LOG.exception("round failed route=%s reason=Fault", key)
            return self._back_off(key, OperatorError.retry_seconds)
        self._on_round(loop.time() - began, "Done")
        self._failures.pop(key, None)
        return done.again_seconds

    def _back_off(self, key: RouteKey, base_seconds: float) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        return float(min(_MOST_SECONDS, base_seconds * 2**failures) * (0.5 + self._jitter() / 2))
