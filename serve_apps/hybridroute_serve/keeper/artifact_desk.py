"""The calibrated policy in the keeper: read where the live policy says, checked, kept, and handed to the routers.

One artifact is in force for the whole fleet. A broken one is refused with a reason, and the last good one stays in
force, also across restarts and updates: a copy of it lies beside the keeper's store. Which requests it keeps is not
said here (`hybridroute_serve.routing`).
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from hybridroute_api.serving import ArtifactPolicy, LivePolicy
from hybridroute_serve.keeper.api_server import ApiConnection, ApiTroubleError, ConfigMap
from hybridroute_serve.routing.artifact.errors import ArtifactError, ArtifactTooLargeError
from hybridroute_serve.routing.artifact.header import MAX_ARTIFACT_BYTES, ArtifactHeader
from hybridroute_serve.routing.artifact.scorer import check_artifact
from hybridroute_serve.routing.artifact.terms import ArtifactTerms, plan_terms
from hybridroute_serve.routing.artifact.validity import route_models

__all__ = ["ArtifactDesk", "HeldArtifact"]

_LOG = logging.getLogger(__name__)

POLL_SECONDS = 2.0
_COPY_NAME = "calibrated-policy.artifact"


@dataclass(frozen=True, slots=True)
class HeldArtifact:
    """The artifact in force."""

    data: bytes
    digest: str
    header: ArtifactHeader


class _Place(Protocol):
    """Where an artifact comes from."""

    async def read_changed(self) -> bytes | None:
        """Return the bytes if they changed since the last look. Raises `_UnreadableError`."""


class _UnreadableError(Exception):
    """There is no artifact to be read. The message is for the route's owner."""


class ArtifactDesk:
    """Keeps one route's artifact. `refresh` looks once; whoever owns the desk does so every `POLL_SECONDS`."""

    def __init__(
        self,
        directory: Path,
        connection: ApiConnection | None,
        read_embedding: Callable[[str], str],
        on_change: Callable[[], Awaitable[None]],
    ) -> None:
        """`read_embedding` returns the digest of the embedding of a name, as routers have it."""
        self._copy = directory / _COPY_NAME
        self._connection = connection
        self._read_embedding = cache(read_embedding)
        self._on_change = on_change
        self._asked: ArtifactPolicy | None = None
        self._place: _Place | None = None
        self._good: HeldArtifact | None = None
        self._lock = asyncio.Lock()
        self.problem: str | None = None
        """Why what the live policy names is not in force; None when it is."""

    @property
    def held(self) -> HeldArtifact | None:
        """The artifact in force; None while the route asks for none, and before the first good one."""
        return self._good if self._asked is not None else None

    def plan(self, policy: LivePolicy | None) -> ArtifactTerms | None:
        """Return how the artifact in force decides under a live policy; None while none is in force."""
        held = self.held
        if policy is None or held is None:
            return None
        routing = policy.routing
        if routing.artifact is None:
            return None
        return plan_terms(held.header, held.digest, routing.artifact, route_models(policy), routing.cascade)

    async def refresh(self, policy: LivePolicy | None) -> None:
        """Look once at what the live policy names. Never raises for what is wrong with it."""
        async with self._lock:
            await self._refresh(policy)

    async def _refresh(self, policy: LivePolicy | None) -> None:
        before = self.held
        self._follow(policy.routing.artifact if policy is not None else None)
        if self._asked is not None and self._good is None:
            await self._load_copy()
        if self._place is not None:
            await self._look(self._place)
        after = self.held
        if (before.digest if before else "") != (after.digest if after else ""):
            _LOG.info("calibrated policy is now artifact=%s", after.digest[:12] if after else "none")
            await self._on_change()

    def _follow(self, asked: ArtifactPolicy | None) -> None:
        if asked is None:
            self._asked, self._place, self.problem = None, None, None
            return
        if self._asked is None or (asked.file, asked.config_map) != (
            self._asked.file,
            self._asked.config_map,
        ):
            self._place = self._find_place(asked)
        self._asked = asked

    def _find_place(self, asked: ArtifactPolicy) -> _Place | None:
        if asked.file is not None:
            return _FilePlace(Path(asked.file))
        assert asked.config_map is not None  # noqa: S101 - exactly one is set, by contract
        if self._connection is None:
            self._refuse(f"ConfigMap {asked.config_map} cannot be read outside of a cluster: name a file")
            return None
        return _ConfigMapPlace(self._connection, asked.config_map)

    async def _look(self, place: _Place) -> None:
        try:
            data = await place.read_changed()
            if data is None:
                return
            held = await asyncio.to_thread(self._check, data)
        except (_UnreadableError, ArtifactError) as error:
            self._refuse(str(error))
            return
        if self._good is None or held.digest != self._good.digest:
            await asyncio.to_thread(_write_copy, self._copy, data)
        self._good, self.problem = held, None

    def _check(self, data: bytes) -> HeldArtifact:
        if len(data) > MAX_ARTIFACT_BYTES:
            raise ArtifactTooLargeError(
                f"the artifact is larger than {MAX_ARTIFACT_BYTES} bytes: check what it is, or use fewer labels"
            )
        artifact = check_artifact(data, self._read_embedding)
        return HeldArtifact(data, artifact.digest, artifact.header)

    async def _load_copy(self) -> None:
        try:
            data = await asyncio.to_thread(self._copy.read_bytes)
            self._good = await asyncio.to_thread(self._check, data)
        except FileNotFoundError:
            return
        except (OSError, ArtifactError) as error:
            _LOG.warning("copy of the calibrated policy was not read reason=%s", error)

    def _refuse(self, reason: str) -> None:
        if reason != self.problem:
            in_force = self._good.digest[:12] if self._good is not None else "none"
            _LOG.error("calibrated policy was refused artifact_in_force=%s reason=%s", in_force, reason)
        self.problem = reason


class _FilePlace:
    """A file on this machine, read when its stamp changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None

    async def read_changed(self) -> bytes | None:
        """Return the bytes if the file changed."""
        try:
            stamp, data = await asyncio.to_thread(_read_file, self._path, self._stamp)
        except OSError as error:
            self._stamp = None
            raise _UnreadableError(f"{self._path} cannot be read: {error.strerror}") from error
        self._stamp = stamp
        return data


class _ConfigMapPlace:
    """An entry of a ConfigMap, read when the object's version changes."""

    def __init__(self, connection: ApiConnection, place: str) -> None:
        namespace, self._name, self._entry = place.split("/")
        self._config_map = ConfigMap(connection, namespace, self._name)
        self._version = ""

    async def read_changed(self) -> bytes | None:
        """Return the entry if the ConfigMap changed. Its version alone is asked for first: an artifact is large."""
        try:
            version = await self._config_map.read_version()
            if version is not None and version == self._version:
                return None
            document = await self._config_map.read()
        except ApiTroubleError as error:
            self._version = ""
            raise _UnreadableError(f"ConfigMap {self._name} was not read: {error}") from error
        if document is None:
            self._version = ""
            raise _UnreadableError(f"ConfigMap {self._name} does not exist: make it from the artifact's file")
        self._version = document["metadata"]["resourceVersion"]
        packed = (document.get("binaryData") or {}).get(self._entry)
        text = (document.get("data") or {}).get(self._entry)
        if packed is None and text is None:
            raise _UnreadableError(f"ConfigMap {self._name} has no entry {self._entry}")
        try:
            return base64.b64decode(packed, validate=True) if packed is not None else str(text).encode()
        except binascii.Error as error:
            raise _UnreadableError(f"entry {self._entry} of ConfigMap {self._name} is no base64") from error


def _read_file(path: Path, known: tuple[int, int, int] | None) -> tuple[tuple[int, int, int], bytes | None]:
    stat = path.stat()
    stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
    if stamp == known:
        return stamp, None
    with path.open("rb") as file:
        # More is no artifact, whatever it is, and need not be held to be refused.
        return stamp, file.read(MAX_ARTIFACT_BYTES + 1)


def _write_copy(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        _LOG.warning("copy of the calibrated policy could not be written error=%s", error)
