"""The keeper as router and llm-proxy replicas see it: the live policy, and where a conversation belongs.

The policy is polled with its version as ETag, handed on when it changed, and copied to disk, so that a replica
that starts while the keeper is away serves by the last one. Records go another way: `hybridroute_serve.journal`.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import aiohttp
import msgspec
from pydantic import ValidationError

from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import InternalHeader, PathName

__all__ = ["ApplyPolicy", "LivePolicySource"]

_LOG = logging.getLogger(__name__)

ApplyPolicy = Callable[[LivePolicy], Awaitable[None]]

POLL_SECONDS = 1.0
POLL_TIMEOUT_SECONDS = 5.0
LOOKUP_TIMEOUT_SECONDS = 0.5
"""A request waits for this answer; without it the gates decide afresh."""
COPY_NAME = "live-policy.json"


class _Conversation(msgspec.Struct):
    path: PathName


class LivePolicySource:
    """Feeds one replica. `apply` is awaited with each new document, never with two at once."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        keeper_url: str,
        token: str,
        directory: Path,
        apply: ApplyPolicy,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._base_url = keeper_url.rstrip("/")
        self._headers = {InternalHeader.TOKEN.value: token}
        self._copy = directory / COPY_NAME
        self._apply = apply
        self._sleep = sleep
        self._version = ""
        self._reached = True
        self._task: asyncio.Task[None] | None = None

    @property
    def version(self) -> str:
        """Version of the last policy handed on; empty before the first."""
        return self._version

    async def start(self) -> None:
        """Hand on the copy on disk if there is one, then poll. Does not wait for the keeper."""
        document = await asyncio.to_thread(_read_copy, self._copy)
        if document is not None:
            await self._hand_on(document)
        self._task = asyncio.create_task(self._poll_forever(), name="live-policy")

    async def stop(self) -> None:
        """Stop polling."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def poll(self) -> None:
        """Ask once. Never raises for a keeper that is away."""
        try:
            document = await self._fetch()
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            self._note_away(type(error).__name__)
            return
        if document is not None and document.version != self._version:
            await self._hand_on(document)
            await asyncio.to_thread(_write_copy, self._copy, document)

    async def lookup_conversation(self, key: str) -> PathName | None:
        """Return the path on record for a conversation; None when there is none or the keeper is away."""
        url = f"{self._base_url}/internal/conversations/{quote(key, safe='')}"
        timeout = aiohttp.ClientTimeout(total=LOOKUP_TIMEOUT_SECONDS)
        try:
            async with self._session.get(url, headers=self._headers, timeout=timeout) as answer:
                if answer.status != 200:
                    return None
                return msgspec.json.decode(await answer.read(), type=_Conversation).path
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError):
            return None

    async def _poll_forever(self) -> None:
        while True:
            try:
                await self.poll()
            except Exception:  # noqa: BLE001 - a policy that cannot be applied must not end the watch for the next
                _LOG.exception("live policy could not be applied")
            await self._sleep(POLL_SECONDS)

    async def _fetch(self) -> LivePolicy | None:
        headers = self._headers | ({"if-none-match": f'"{self._version}"'} if self._version else {})
        timeout = aiohttp.ClientTimeout(total=POLL_TIMEOUT_SECONDS)
        async with self._session.get(
            f"{self._base_url}/internal/live", headers=headers, timeout=timeout
        ) as answer:
            body = await answer.read()
            if answer.status not in (200, 304):
                self._note_away(f"status_{answer.status}")
                return None
            self._reached = True
            return LivePolicy.model_validate_json(body) if answer.status == 200 else None

    async def _hand_on(self, document: LivePolicy) -> None:
        await self._apply(document)
        self._version = document.version

    def _note_away(self, reason: str) -> None:
        if self._reached:
            _LOG.warning("live policy was not fetched reason=%s version=%s", reason, self._version)
        self._reached = False


def _read_copy(path: Path) -> LivePolicy | None:
    try:
        return LivePolicy.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        _LOG.warning("copy of the live policy could not be read error=%s", type(error).__name__)
        return None


def _write_copy(path: Path, document: LivePolicy) -> None:
    # Replicas share the directory: each writes a file of its own, and the rename is atomic.
    draft = path.with_name(f"{path.name}.{os.getpid()}-{id(document):x}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(document.model_dump_json())
        draft.replace(path)
    except OSError as error:
        _LOG.warning("copy of the live policy could not be written error=%s", error)
        draft.unlink(missing_ok=True)
