"""Does a path have a ready replica? Read from HAProxy's exporter in the background, never on a request's path.

`haproxy_backend_active_servers` costs about 1 ms to read and does not count HAProxy's fallback server, behind which a
request would wait for a replica to come. Not `serve.status()` (30 to 115 ms) and not `/-/healthz` (true as soon as the
fallback is up).
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence

import aiohttp

__all__ = ["RESTART_SECONDS", "BackendMonitor", "ExporterWatch", "parse_active_servers"]

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_TIMEOUT_SECONDS = 2.0
_FAILURES_UNTIL_UNKNOWN = 3

RESTART_SECONDS = 30.0
"""A killed replica answers again within 6 s on an idle machine of two cores, and within 20 s on a busy one."""

_LINE = re.compile(rb'^haproxy_backend_active_servers\{proxy="([^"]+)"\} (\d+)', re.MULTILINE)


def parse_active_servers(exposition: bytes) -> dict[str, int]:
    """Ready servers by backend name, from HAProxy's Prometheus text."""
    return {name.decode(): int(count) for name, count in _LINE.findall(exposition)}


class BackendMonitor:
    """The number of ready replicas of one backend; an `ExporterWatch` keeps it.

    Until the first answer, and after three failed reads, the backend counts as down: the other path serves.
    """

    def __init__(
        self,
        backend: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_down: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_down` is called when the backend loses its last replica."""
        self._backend = backend
        self._clock = clock
        self._on_down = on_down
        self._turned_at = clock()
        self._ready_replicas = 0
        self._failures = 0

    @property
    def ready(self) -> bool:
        """True when at least one replica can answer now."""
        return self._ready_replicas > 0

    @property
    def restarting(self) -> bool:
        """True while the backend has been down for so short a time that it may just be coming back."""
        return not self.ready and self._clock() - self._turned_at < RESTART_SECONDS

    @property
    def ready_replicas(self) -> int:
        """Replicas that can answer now."""
        return self._ready_replicas

    def note(self, active_servers: Mapping[str, int] | None) -> None:
        """Take what the exporter said of all backends; None when it could not be read."""
        if active_servers is not None:
            self._failures = 0
            count = active_servers.get(self._backend, 0)
        else:
            self._failures += 1
            count = 0 if self._failures >= _FAILURES_UNTIL_UNKNOWN else self._ready_replicas
        turned = (count > 0) != self.ready
        self._ready_replicas = count
        if turned:
            self._turned_at = self._clock()
            _log.info("backend turned backend=%s ready_replicas=%d", self._backend, count)
            if not self.ready:
                self._on_down()


class ExporterWatch:
    """Reads one exporter, for all backends that are behind it."""

    def __init__(
        self, session: aiohttp.ClientSession, metrics_url: str, monitors: Sequence[BackendMonitor]
    ) -> None:
        self._session = session
        self._url = f"{metrics_url}?scope=backend"
        self._monitors = monitors
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read once, then go on in the background: a new replica knows of its paths before its first request."""
        await self.poll()
        self._task = asyncio.create_task(self._poll_forever())

    async def stop(self) -> None:
        """End polling."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def poll(self) -> None:
        """Read once. Never raises for an exporter that is away."""
        active_servers: Mapping[str, int] | None = None
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            active_servers = await self._read()
        for monitor in self._monitors:
            monitor.note(active_servers)

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await self.poll()

    async def _read(self) -> dict[str, int]:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with self._session.get(self._url, timeout=timeout) as response:
            response.raise_for_status()
            return parse_active_servers(await response.read())
