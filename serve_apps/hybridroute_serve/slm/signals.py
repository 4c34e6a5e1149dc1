"""Asks the engine for its load now and then, keeps the answer as facts of the heartbeat, and notices its death.

A heartbeat cannot wait for an engine that is busy; what it carries is at most one interval older.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from hybridroute_api import facts
from hybridroute_serve.engines.engine import Engine, EngineDeadError, EngineError, EngineSignals

__all__ = ["SignalWatch", "signal_facts"]

_log = logging.getLogger(__name__)

_INTERVAL_SECONDS = 1.0


class SignalWatch:
    """Watches one engine from `start` to `stop`."""

    def __init__(self, engine: Engine, *, on_dead: Callable[[], None]) -> None:
        """`on_dead` is called once, when the engine has died."""
        self._engine = engine
        self._on_dead = on_dead
        self._last: EngineSignals | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask; the engine has been started."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def facts(self) -> Mapping[str, str]:
        """Return the last answer as facts; none while the engine does not answer."""
        return {} if self._last is None else signal_facts(self._last)

    async def _run(self) -> None:
        while True:
            try:
                self._last = await self._engine.signals()
            except EngineDeadError as error:
                _log.error("engine died error=%s", error)
                self._last = None
                self._on_dead()
                return
            except EngineError:
                self._last = None
            await asyncio.sleep(_INTERVAL_SECONDS)


def signal_facts(signals: EngineSignals) -> dict[str, str]:
    """Return an engine's load as a heartbeat's facts."""
    said = {facts.ENGINE_RUNNING: str(signals.running), facts.ENGINE_WAITING: str(signals.waiting)}
    if signals.cache_use is not None:
        said[facts.ENGINE_CACHE_USE] = f"{signals.cache_use:.4f}"
    return said
