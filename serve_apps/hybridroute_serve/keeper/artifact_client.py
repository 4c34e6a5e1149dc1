"""The calibrated policy as one router gets it: fetched from the keeper whenever the standing names another artifact.

A copy lies on disk beside that of the live policy, so that a replica that starts while the keeper is away decides by
the last one. What is broken is never handed on: the keeper checks it first, and a router once more.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp

from hybridroute_api.vocabulary import InternalHeader
from hybridroute_serve.keeper.standing_client import POLL_SECONDS, StandingSource
from hybridroute_serve.routing.artifact.errors import ArtifactError

__all__ = ["ApplyArtifact", "ArtifactSource"]

_LOG = logging.getLogger(__name__)

ApplyArtifact = Callable[[bytes], Awaitable[None]]

COPY_NAME = "calibrated-policy.artifact"
_TIMEOUT_SECONDS = 5.0
_RETRY_SECONDS = 2.0


class ArtifactSource:
    """Feeds one router replica. `apply` is awaited with each new artifact, never with two at once."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        keeper_url: str,
        token: str,
        *,
        directory: Path,
        standing: StandingSource,
        apply: ApplyArtifact,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._base_url = keeper_url.rstrip("/") + "/internal/artifacts/"
        self._headers = {InternalHeader.TOKEN.value: token}
        self._copy = directory / COPY_NAME
        self._standing = standing
        self._apply = apply
        self._sleep = sleep
        self._handed_on = ""
        self._problem: str | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Hand on the copy on disk if there is one, then follow the standing. Does not wait for the keeper."""
        data = await asyncio.to_thread(_read_copy, self._copy)
        if data is not None:
            with suppress(ArtifactError):  # of another release; the keeper has the one that is in force
                await self._apply(data)
        self._task = asyncio.create_task(self._follow(), name="calibrated-policy")

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def refresh(self) -> bool:
        """Fetch what the standing names, if it is new. False when that did not work; never raises for it."""
        standing = self._standing.standing
        if standing is None or standing.artifact in ("", self._handed_on):
            return True
        try:
            problem = await self._fetch(standing.artifact)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = type(error).__name__
        except ArtifactError as error:
            problem = str(error)
        if problem is not None and problem != self._problem:
            _LOG.warning(
                "calibrated policy was not fetched artifact=%s reason=%s", standing.artifact[:12], problem
            )
        self._problem = problem
        return problem is None

    async def _follow(self) -> None:
        while True:
            fine = await self.refresh()
            await self._sleep(POLL_SECONDS if fine else _RETRY_SECONDS)

    async def _fetch(self, digest: str) -> str | None:
        """Return why there was no artifact, or None."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with self._session.get(
            self._base_url + digest, headers=self._headers, timeout=timeout
        ) as answer:
            data = await answer.read()
            if answer.status != 200:
                return f"status_{answer.status}"
        await self._apply(data)
        self._handed_on = digest
        await asyncio.to_thread(_write_copy, self._copy, data)
        return None


def _read_copy(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _write_copy(path: Path, data: bytes) -> None:
    # Replicas share the directory: each writes a file of its own, and the rename is atomic.
    draft = path.with_name(f"{path.name}.{os.getpid()}-{id(data):x}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        _LOG.warning("copy of the calibrated policy could not be written error=%s", error)
        draft.unlink(missing_ok=True)
