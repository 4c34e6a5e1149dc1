"""The HTTP client of path applications: one pool for all upstreams, no redirects, no retries.

Redirects are not followed because an upstream must not send the credential, or the client's text, elsewhere.
Cookies and proxies from the environment are not used. aiohttp repeats only idempotent requests, never a POST.
"""

import os
import ssl
from collections.abc import Callable
from functools import lru_cache

import aiohttp

from hybridroute_serve.upstream.bodies import as_payload
from hybridroute_serve.upstream.credentials import CredentialFiles
from hybridroute_serve.upstream.target import AttemptTarget

__all__ = ["IDLE_CONNECTION_SECONDS", "UpstreamClient"]

IDLE_CONNECTION_SECONDS = 4.0
"""Below the 5 s after which uvicorn and llama.cpp close idle connections: a request must not meet a closing one."""


class UpstreamClient:
    """Sends attempts. Start it in the loop that uses it; stop it after the last attempt."""

    def __init__(self) -> None:
        self._credentials = CredentialFiles()
        self._tls_contexts: dict[str, tuple[int, ssl.SSLContext]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the pool."""
        self._session = aiohttp.ClientSession(
            # No limit: a stream holds its connection, and admission is not the pool's work.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def stop(self) -> None:
        """Close the pool and all its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        target: AttemptTarget,
        operation: str,
        body: bytes,
        headers: list[tuple[bytes, bytes]],
        *,
        on_sent: Callable[[], None],
    ) -> aiohttp.ClientResponse:
        """Send a POST and return the answer once its head is there; the caller closes it.

        `on_sent` is called when the request has gone out. The target's connect deadline is kept here, the others
        by the caller. Raises `CredentialError`, `aiohttp.ConnectionTimeoutError` when there was no connection in
        time, `aiohttp.ClientError`, and `OSError` for a CA file that cannot be read.
        """
        assert self._session is not None, "not started"  # noqa: S101 - a defect of the composition
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        sent |= {"content-type": "application/json", "accept-encoding": "identity"}
        sent |= {name.lower(): value for name, value in target.headers.items()}
        if target.credential_file is not None:
            sent["authorization"] = f"Bearer {self._credentials.read(target.credential_file)}"
        return await self._session.post(
            target.base_url + operation,
            data=as_payload(body, on_sent),
            headers=sent,
            allow_redirects=False,
            timeout=_timeout(target.timeouts.connect_seconds),
            ssl=True if target.ca_file is None else self._tls_context(target.ca_file),
        )

    def mask_credential(self, target: AttemptTarget, text: bytes) -> bytes:
        """Hide the key that was sent to the target in what came back: some providers quote it in their errors."""
        if target.credential_file is None:
            return text
        return text.replace(self._credentials.read(target.credential_file).encode(), b"***")

    def _tls_context(self, ca_file: str) -> ssl.SSLContext:
        """Return one context for a CA file, made again when the file changes, so that connections are shared."""
        changed = os.stat(ca_file).st_mtime_ns  # noqa: PTH116 - on the hot path
        known = self._tls_contexts.get(ca_file)
        if known is not None and known[0] == changed:
            return known[1]
        context = ssl.create_default_context(cafile=ca_file)
        self._tls_contexts[ca_file] = changed, context
        return context


@lru_cache
def _timeout(connect_seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_seconds)
