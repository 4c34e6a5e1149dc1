"""Follows the live policy's ConfigMap through the Kubernetes API, into the file that the keeper watches.

A mounted ConfigMap takes one to two minutes to change; this takes two seconds. It copies and judges nothing: whether
the document is good is for `live` to say. Not used on one machine.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

__all__ = ["ApiAccess", "ConfigMapFollower", "find_api_access"]

_LOG = logging.getLogger(__name__)

POLL_SECONDS = 2.0
_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Where the API server is and what a pod shows it."""

    url: str
    token_file: Path
    """Read at each request: the kubelet renews it."""
    ca_file: Path | None
    """None for plain HTTP, in tests."""


class ConfigMapFollower:
    """Copies one entry of a ConfigMap to a file whenever it changes. Stop it after use."""

    def __init__(
        self,
        access: ApiAccess,
        config_map: str,
        target: Path,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`config_map` is `<namespace>/<name>/<entry>`."""
        namespace, name, self._entry = config_map.split("/")
        self._url = f"{access.url}/api/v1/namespaces/{namespace}/configmaps/{name}"
        self._access = access
        self._target = target
        self._sleep = sleep
        self._version = ""
        self._problem = ""
        self._session: aiohttp.ClientSession | None = None

    async def watch(self) -> None:
        """Look at the ConfigMap for ever."""
        while True:
            await self.refresh()
            await self._sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Look once. The file stays as it is while the API server does not answer."""
        try:
            document = await self._read()
            version, text = document["metadata"]["resourceVersion"], document["data"][self._entry]
            if version != self._version:
                await asyncio.to_thread(_replace, self._target, text)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._note(f"no answer: {type(error).__name__}")
        except (KeyError, TypeError, msgspec.DecodeError) as error:
            self._note(f"not understood: {type(error).__name__} {error}")
        else:
            self._version = version
            self._note("")

    async def stop(self) -> None:
        """Let go of the connection."""
        if self._session is not None:
            await self._session.close()

    async def _read(self) -> dict[str, dict[str, str]]:
        if self._session is None:
            ca_file = self._access.ca_file
            context = ssl.create_default_context(cafile=ca_file) if ca_file else False
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context), timeout=_TIMEOUT
            )
        token = await asyncio.to_thread(self._access.token_file.read_text)
        headers = {"Authorization": f"Bearer {token.strip()}"}
        async with self._session.get(self._url, headers=headers) as answer:
            answer.raise_for_status()
            document: dict[str, dict[str, str]] = msgspec.json.decode(await answer.read())
            return document

    def _note(self, problem: str) -> None:
        if problem and problem != self._problem:
            _LOG.error("live policy was not read from the API server reason=%s", problem)
        self._problem = problem


def find_api_access(environ: Mapping[str, str], account_dir: Path = _ACCOUNT_DIR) -> ApiAccess:
    """Return what the kubelet gives a pod. Raises KeyError outside of one."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    bracketed = f"[{host}]" if ":" in host else host
    return ApiAccess(f"https://{bracketed}:{port}", account_dir / "token", account_dir / "ca.crt")


def _replace(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(target)
