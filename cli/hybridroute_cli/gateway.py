"""A running route's HTTP surface as the commands see it: the OpenAI API for clients and the keeper's answers."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from hybridroute_api.vocabulary import InternalHeader, PathName
from hybridroute_cli.output import CommandError
from hybridroute_cli.rundir import Run, RunDirectory, home_directory

__all__ = ["API_KEY_VARIABLE", "Answer", "Gateway", "find_running", "gateway_session", "open_gateway"]

API_KEY_VARIABLE = "HYBRIDROUTE_API_KEY"
"""Key for a route with `spec.auth`. Not an option: arguments are shown to every user of the machine."""

_REQUEST_SECONDS = 300.0
_ADVICE = "see `hybridroute status`, or start again with `hybridroute up -f FILE`"


def find_running(route: str | None) -> tuple[RunDirectory, Run]:
    """Return the named route's instance, or the only one there is. Raises `CommandError`."""
    home = home_directory()
    names = sorted(path.parent.name for path in home.glob("*/run.json"))
    if route is None and len(names) > 1:
        raise CommandError(f"several routes are up: {', '.join(names)}; choose one with --route")
    if not names or (route is not None and route not in names):
        which = f"route {route} is not up" if route else "no route is up"
        raise CommandError(f"{which}; start one with: hybridroute up -f FILE")
    directory = RunDirectory(home, route or names[0])
    run = directory.read_run()
    if run is None:
        raise CommandError(f"{directory.run_file} is not readable; start again with: hybridroute up -f FILE")
    return directory, run


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the OpenAI surface."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """The first choice's text, or the error's message."""
        if "error" in self.body:
            return str(self.body["error"].get("message", self.body["error"]))
        choice = self.body["choices"][0]
        return str(choice["message"]["content"] if "message" in choice else choice["text"])


class Gateway:
    """Calls one route. Errors of the connection become `CommandError`."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, token: str, *, api_key: str, advice: str = _ADVICE
    ) -> None:
        """`api_key` is sent with questions; empty sends none. `advice`: what to do when nothing answers."""
        self._session = session
        self._url = url
        self._advice = advice
        self._client_headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._headers = {str(InternalHeader.TOKEN): token}

    async def ask(self, prompt: str, *, model: str, max_tokens: int | None) -> Answer:
        """Send one chat completion."""
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        try:
            async with self._session.post(
                f"{self._url}/v1/chat/completions", json=body, headers=self._client_headers
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                if "json" not in headers.get("content-type", ""):
                    raise CommandError(
                        f"the gateway answered {response.status}: {(await response.text())[:200]}"
                    )
                return Answer(response.status, headers, await response.json())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CommandError(self._unreachable(error)) from error

    async def ask_keeper(self, path: str) -> Any:
        """GET one of the keeper's documents; None when it has none under that name."""
        try:
            async with self._session.get(f"{self._url}/keeper{path}", headers=self._headers) as response:
                if response.status == 404:
                    return None
                if response.status != 200:
                    raise CommandError(
                        f"the keeper answered {response.status}: {(await response.text())[:200]}"
                    )
                return await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CommandError(self._unreachable(error)) from error

    async def ready_paths(self) -> frozenset[PathName]:
        """Return the paths that the router would send a request to now; none while it is not ready itself."""
        try:
            async with self._session.get(f"{self._url}/readyz") as response:
                if response.status != 200:
                    return frozenset()
                facts = await response.json()
        except (aiohttp.ClientError, TimeoutError):
            return frozenset()
        return frozenset(path for path in PathName if facts[path])

    def _unreachable(self, error: BaseException) -> str:
        return f"{self._url} does not answer ({type(error).__name__}); {self._advice}"


def gateway_session(patience_seconds: float = _REQUEST_SECONDS) -> aiohttp.ClientSession:
    """Return a session with the deadlines of a gateway's client."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=patience_seconds, sock_connect=5.0))


@asynccontextmanager
async def open_gateway(
    directory: RunDirectory, run: Run, *, patience_seconds: float = _REQUEST_SECONDS, advice: str = _ADVICE
) -> AsyncIterator[Gateway]:
    """Open a client of a route that runs on this machine."""
    async with gateway_session(patience_seconds) as session:
        api_key = os.environ.get(API_KEY_VARIABLE, "").strip()
        yield Gateway(session, run.url, directory.read_token(), api_key=api_key, advice=advice)
