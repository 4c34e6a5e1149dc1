"""The Kubernetes API server as a pod of the route reaches it: one connection, one ConfigMap at a time.

The keeper's only way there; not used on one machine. It knows paths and codes, and nothing of what a ConfigMap holds
(`config_map`, `config_map_store`).
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

__all__ = [
    "ApiAccess",
    "ApiConflictError",
    "ApiConnection",
    "ApiTroubleError",
    "ConfigMap",
    "find_api_access",
]

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MERGE_PATCH: Final = "application/merge-patch+json"
_METADATA_ALONE: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"


class ApiTroubleError(OSError):
    """No answer, or none that helps: nobody knows whether anything was done."""


class ApiConflictError(Exception):
    """Somebody else wrote the ConfigMap since it was read."""


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Where the API server is and what a pod shows it."""

    url: str
    token_file: Path
    """Read at each request: the kubelet renews it."""
    ca_file: Path | None
    """None for plain HTTP, in tests."""


class ApiConnection:
    """Calls of one pod. Stop it after use."""

    def __init__(self, access: ApiAccess) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        accept: str = "application/json",
    ) -> tuple[int, Any]:
        """Return status and document. Errors: ApiTroubleError."""
        try:
            if self._session is None:
                ca_file = self._access.ca_file
                context = ssl.create_default_context(cafile=ca_file) if ca_file else False
                connector = aiohttp.TCPConnector(ssl=context)
                self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
            token = await asyncio.to_thread(self._access.token_file.read_text)
            headers = {"Authorization": f"Bearer {token.strip()}", "Content-Type": kind, "Accept": accept}
            data = None if body is None else msgspec.json.encode(body)
            async with self._session.request(
                method, self._access.url + path, data=data, headers=headers
            ) as answer:
                return answer.status, msgspec.json.decode(await answer.read() or b"null")
        except (aiohttp.ClientError, OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ApiTroubleError(f"no answer: {type(error).__name__}") from error

    async def stop(self) -> None:
        """Let go of the connection."""
        if self._session is not None:
            await self._session.close()


class ConfigMap:
    """One ConfigMap of the API server."""

    def __init__(self, connection: ApiConnection, namespace: str, name: str) -> None:
        self._connection = connection
        self._path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"

    async def read(self) -> Any:
        """Return the document, or None when there is none. Errors: ApiTroubleError."""
        return _document(*await self._connection.call("GET", self._path))

    async def read_version(self) -> str | None:
        """Return the version without the entries, or None when there is no such object. Errors: ApiTroubleError."""
        answer = await self._connection.call("GET", self._path, accept=_METADATA_ALONE)
        document = _document(*answer)
        return None if document is None else str(document["metadata"]["resourceVersion"])

    async def patch(self, resource_version: str, entries: Mapping[str, str | None]) -> Any:
        """Change entries, None removes one, if the version is still this; return the document, None when it is gone.

        Errors: ApiConflictError for another version, ApiTroubleError.
        """
        body = {"metadata": {"resourceVersion": resource_version}, "data": dict(entries)}
        return _document(*await self._connection.call("PATCH", self._path, body, kind=_MERGE_PATCH))


def find_api_access(environ: Mapping[str, str], account_dir: Path = _ACCOUNT_DIR) -> ApiAccess:
    """Return what the kubelet gives a pod. Raises KeyError outside of one."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    bracketed = f"[{host}]" if ":" in host else host
    return ApiAccess(f"https://{bracketed}:{port}", account_dir / "token", account_dir / "ca.crt")


def _document(status: int, document: Any) -> Any:
    if status == 404:
        return None
    if status == 409:
        raise ApiConflictError
    if status >= 400:
        raise ApiTroubleError(f"answer {status}")
    return document
