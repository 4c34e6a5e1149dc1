"""What a replica reports with: its journal, the shipper, adoption of the dead, the way to the keeper.

The composition that router, llm-proxy and slm start with their lifespan and stop with it.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from hybridroute_api.facts import JOURNAL_ERRORS
from hybridroute_api.records import ReplicaHeartbeat
from hybridroute_serve.journal.adoption import Adopter
from hybridroute_serve.journal.journal import Journal
from hybridroute_serve.journal.shipper import Shipper, ShipperTiming, Sleep
from hybridroute_serve.journal.transport import KeeperTransport
from hybridroute_serve.turning_session import TurningSession

__all__ = ["Reporter", "ReporterSettings", "Vitals"]

_LOG = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
FINISH_SECONDS = 3.0
"""How long a stopping replica tries to hand over what is left; after that a successor adopts it."""


@dataclass(frozen=True, slots=True)
class ReporterSettings:
    """Where a replica reports, and as whom."""

    journal_dir: Path
    keeper_url: str
    token_file: Path
    replica: str
    """Unique to this incarnation of the process: Serve's replica id, or app, host and process id."""
    app: str


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the app knows of itself at a heartbeat."""

    busy_seconds: float = 0.0
    """SLM: how long at least one request has been in flight since the replica started."""
    ongoing: int = 0
    policy_version: str = ""
    facts: dict[str, str] = field(default_factory=dict)


class Reporter:
    """Start it before the first request, stop it after the last; report through `journal`."""

    def __init__(
        self,
        settings: ReporterSettings,
        observe: Callable[[], Vitals] = Vitals,
        *,
        timing: ShipperTiming | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        randomness: Callable[[], float] = random.random,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._observe = observe
        self._timing = timing or ShipperTiming()
        self._clock = clock
        self._monotonic = monotonic
        self._randomness = randomness
        self._sleep = sleep
        self._started_at = clock()
        self.journal = Journal(settings.journal_dir, settings.replica, settings.app, self._started_at)
        self._sessions: TurningSession | None = None
        self._shipper: Shipper | None = None
        self._adopter: Adopter | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the journal and start shipping. Errors: OSError when the directory cannot be written."""
        self.journal.start()
        self._sessions = TurningSession(aiohttp.ClientSession, monotonic=self._monotonic)
        transport = KeeperTransport(self._sessions, self._settings.keeper_url, self._settings.token_file)
        self._shipper = Shipper(
            self.journal,
            transport.post_batch,
            self._make_heartbeat,
            timing=self._timing,
            monotonic=self._monotonic,
            random=self._randomness,
            sleep=self._sleep,
        )
        self._adopter = Adopter(
            self._settings.journal_dir, transport.post_batch, timing=self._timing, sleep=self._sleep
        )
        self._tasks = [
            asyncio.create_task(self._keep_running(self._shipper.run), name="journal-shipper"),
            asyncio.create_task(self._keep_running(self._adopter.run), name="journal-adopter"),
        ]

    async def stop(self) -> None:
        """Hand over what is left within a few seconds, and let go of the files."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._shipper is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(FINISH_SECONDS):
                    await self._shipper.finish()
        if self._sessions is not None:
            await self._sessions.close()
        self.journal.stop()

    async def _keep_running(self, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
            except Exception:  # noqa: BLE001 - an app's failing `observe` must not end the reporting of records
                _LOG.exception("journal task failed replica=%s", self._settings.replica)
            await self._sleep(RESTART_SECONDS)

    def _make_heartbeat(self, ended: bool) -> ReplicaHeartbeat:
        vitals = self._observe()
        errors = self.journal.write_errors
        for sender in (self._shipper, self._adopter):
            errors += sender.refused_lines if sender is not None else 0
        return ReplicaHeartbeat(
            replica=self._settings.replica,
            app=self._settings.app,
            started_at=self._started_at,
            at=self._clock(),
            busy_seconds=vitals.busy_seconds,
            ongoing=vitals.ongoing,
            policy_version=vitals.policy_version,
            facts=vitals.facts | ({JOURNAL_ERRORS: str(errors)} if errors else {}),
            ended=ended,
        )
