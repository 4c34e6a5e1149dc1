"""The router with the llm-proxy called as a function instead of over HTTP: what decision 12 weighs.

Everything is on, as in `hybridroute` of `benchmarks.gateway`; what is gone is one HTTP server, one client and one pass
through HAProxy. Failures of the LLM path are not told apart. Never a product: `benchmarks.gateway` deploys it by
writing `import_path` into a run's `serve.json`, and `benchmarks.hot_path` runs it in one process with the rest.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from ray.serve import Application

from hybridroute_api.serving import LlmProxyArgs, RouterArgs
from hybridroute_api.vocabulary import InternalHeader, PathName
from hybridroute_serve.apps.replica import bind_application, replica_name
from hybridroute_serve.engines.in_process import AppAnswer, post_to_app, read_whole
from hybridroute_serve.router.app import RouterApp
from hybridroute_serve.router.path_client import PathAnswer, PathClient, PathFailure
from hybridroute_serve.routing.embedding import load_static_embedder
from hybridroute_serve.upstream.replica import LlmProxyReplica
from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["IMPORT_PATHS", "CalledPath", "build_router"]

IMPORT_PATHS: Final[Mapping[str, str]] = {"router": "benchmarks.merged:build_router"}
"""Application → what to deploy in its place; the repository's root must be on `PYTHONPATH`."""


class Body:
    """A called application's body, as the router reads one."""

    def __init__(self, answer: AppAnswer) -> None:
        self._answer = answer
        self._ended = False

    async def readany(self) -> bytes:
        """Return what has come, or wait for more; empty at the end."""
        chunk = await self._answer.readany()
        self._ended = not chunk
        return chunk

    def at_eof(self) -> bool:
        """Say whether the end has been read."""
        return self._ended


class CalledPath:
    """In the place of `path_client.PathClient`: calls the llm-proxy, and sends to the SLM by the client it replaces."""

    def __init__(self, app: ASGIApp, token: str, replaced: PathClient) -> None:
        self._app = app
        self._token = token
        self._replaced = replaced

    @asynccontextmanager
    async def send_request(
        self,
        path: PathName,
        operation: str,
        body: bytes,
        headers: list[tuple[bytes, bytes]],
        **terms: Any,
    ) -> AsyncIterator[PathAnswer | PathFailure]:
        """Call, and yield the answer. `terms` are those of the client that it replaces."""
        if path is not PathName.LLM:
            async with self._replaced.send_request(path, operation, body, headers, **terms) as sent:
                yield sent
            return
        own = {**terms["internal"], InternalHeader.TOKEN: self._token}
        passed = [pair for pair in headers if pair[0] != b"content-type"]
        passed += [(name.encode(), value.encode()) for name, value in own.items()]
        async with asyncio.timeout(terms["first_byte_seconds"]):
            answer = await post_to_app(self._app, operation, body, passed)
            whole = None if terms["stream"] else await read_whole(answer)
        try:
            if whole is not None:
                yield PathAnswer(answer.status, answer.raw_headers, body=whole)
            else:
                response: Any = SimpleNamespace(content=Body(answer))
                yield PathAnswer(answer.status, answer.raw_headers, response=response)
        finally:
            answer.close()


class CallingRouter(RouterApp):
    """A router with a replica of the llm-proxy in it."""

    def __init__(self, args: RouterArgs, *, replica: str) -> None:
        super().__init__(args, load_static_embedder(), replica=replica)
        own = LlmProxyArgs(**{name: getattr(args, name) for name in LlmProxyArgs.model_fields})
        self._llm_proxy = LlmProxyReplica(own, replica=f"{replica}-llm")

    async def start(self) -> None:
        """Start both."""
        await super().start()
        app = await self._llm_proxy.build_app()
        await self._llm_proxy._start()
        token = (await asyncio.to_thread(Path(self._args.token_file).read_text)).strip()
        paths: Any = CalledPath(app, token, self._parts.paths)
        self._parts = replace(self._parts, paths=paths)

    async def stop(self) -> None:
        """Stop both."""
        await self._llm_proxy._stop()
        await super().stop()


def build_router(args: RouterArgs) -> Application:
    """Bind the application."""
    return bind_application("router", args, _make_router)


async def _make_router(args: RouterArgs) -> ASGIApp:
    return CallingRouter(args, replica=replica_name("router"))
