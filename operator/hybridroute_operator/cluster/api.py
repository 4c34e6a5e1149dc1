"""One call to the API server: paths in, documents out, errors of the client turned into ours at this border."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import aiohttp
from kubernetes.aio.client import ApiClient

from hybridroute_operator.errors import (
    ApiConflictError,
    ApiForbiddenError,
    ApiRejectedError,
    ApiUnavailableError,
    OperatorError,
)

__all__ = ["APPLY", "JSON", "JSON_PATCH", "MERGE_PATCH", "Api", "KindMissingError", "conflict"]

JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"

_TIMEOUT_SECONDS: Final = 20.0


class KindMissingError(OperatorError):
    """The API server does not serve the kind."""

    reason = "KindMissing"


class Api:
    """Calls of one operator. `on_call` gets verb, resource and status code of each, for metrics."""

    def __init__(self, client: ApiClient, on_call: Callable[[str, str, int], None]) -> None:
        self._client = client
        self._on_call = on_call

    async def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """Return the document, or None when there is no such object."""
        status, document = await self._call("GET", path, query=query)
        return None if status == 404 else document

    async def write(
        self, verb: str, path: str, body: Any = None, *, kind: str = JSON, **query: str
    ) -> tuple[int, dict[str, Any]]:
        """Return status code and document; codes of 400 and above but 404 and 409 are raised."""
        return await self._call(verb, path, body=body, kind=kind, query=query)

    async def _call(
        self, verb: str, path: str, *, body: Any = None, kind: str = JSON, query: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        resource = _resource_of(path)
        try:
            request = await self._client.param_serialize(
                verb,
                path,
                query_params=list(query.items()),
                header_params={"Accept": JSON, "Content-Type": kind},
                body=body,
                auth_settings=["BearerToken"],
            )
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                answer = await self._client.call_api(*request)
                data = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._on_call(verb, resource, 0)
            raise ApiUnavailableError(f"{verb} {path}: no answer ({type(error).__name__})") from error
        self._on_call(verb, resource, answer.status)
        return answer.status, _read(verb, path, answer.status, data)


def _read(verb: str, path: str, status: int, data: bytes) -> dict[str, Any]:
    """Return the document of an answer that the caller can use; raise for the others."""
    try:
        document: dict[str, Any] = json.loads(data) if data else {}
    except ValueError:
        document = {"message": data.decode(errors="replace").strip()}
    told = f"{verb} {path}: {status} {document.get('message', '')}".rstrip()
    if status == 404 and "details" not in document:
        raise KindMissingError(told)
    if status < 400 or status in (404, 409):
        return document
    if status in (401, 403):
        raise ApiForbiddenError(told)
    if status == 429 or status >= 500:
        raise ApiUnavailableError(told)
    raise ApiRejectedError(told)


def conflict(verb: str, path: str, document: dict[str, Any]) -> ApiConflictError:
    """Return the error of an answer 409."""
    return ApiConflictError(f"{verb} {path}: 409 {document.get('message', '')}".rstrip())


def _resource_of(path: str) -> str:
    """Return the plural in a path, for labels: /apis/ray.io/v1/namespaces/a/rayservices/b → rayservices."""
    parts = path.strip("/").split("/")
    if "namespaces" in parts:
        rest = parts[parts.index("namespaces") + 2 :]
        return rest[0] if rest else "namespaces"
    return parts[-1]
