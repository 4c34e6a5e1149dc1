"""The live policy's file, watched: a good change is in force within a second, a bad one is refused and said.

The last good document stays in force, also across a restart of the keeper (`store`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import ValidationError

from hybridroute_api.serving import LivePolicy

__all__ = ["LiveFile"]

_LOG = logging.getLogger(__name__)

POLL_SECONDS = 0.5

_Stamp = tuple[int, int, int]


class LiveFile:
    """The policy in force and what is wrong with the file, if anything."""

    def __init__(
        self,
        path: Path,
        route: str,
        last_good: LivePolicy | None,
        on_change: Callable[[LivePolicy], Awaitable[None]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._route = route
        self._on_change = on_change
        self._sleep = sleep
        self._stamp: _Stamp | None = None
        self.policy = last_good
        self.error: str | None = None

    async def watch(self) -> None:
        """Look at the file for ever."""
        while True:
            await self.refresh()
            await self._sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Look once."""
        try:
            stamp = await asyncio.to_thread(_stamp_of, self._path)
            if stamp == self._stamp:
                return
            text = await asyncio.to_thread(self._path.read_bytes)
            policy = LivePolicy.model_validate_json(text)
            if policy.route != self._route:
                self._refuse(stamp, f"it is of route {policy.route}, not of {self._route}")
                return
        except OSError as error:
            self._refuse(None, f"it cannot be read: {error.strerror}")
            return
        except ValidationError as error:
            self._refuse(stamp, _first_error(error))
            return
        self._stamp = stamp
        self.error = None
        if self.policy is None or policy.version != self.policy.version:
            self.policy = policy
            _LOG.info("live policy was taken route=%s version=%s", policy.route, policy.version)
            await self._on_change(policy)

    def _refuse(self, stamp: _Stamp | None, reason: str) -> None:
        self._stamp = stamp
        error = f"{self._path.name} is not in force: {reason}"
        if error != self.error:
            version = self.policy.version if self.policy is not None else ""
            _LOG.error("live policy was refused version_in_force=%s reason=%s", version, reason)
        self.error = error


def _stamp_of(path: Path) -> _Stamp:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _first_error(error: ValidationError) -> str:
    # The input is left out: headers of an upstream may hold a key.
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
