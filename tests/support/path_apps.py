"""Scripted stand-ins for the two path applications, as the router sees them over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from hybridroute_api.vocabulary import PathName

__all__ = ["PathApps", "running_path_apps", "sse"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def sse(*texts: str) -> bytes:
    return b"".join(b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % text.encode() for text in texts)


@dataclass
class PathApps:
    """What each path answers and what it was asked."""

    base_urls: dict[PathName, str]
    handlers: dict[PathName, Handler]
    seen: list[tuple[PathName, dict[str, str], bytes]] = field(default_factory=list)
    open_requests: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def running_path_apps() -> AsyncIterator[PathApps]:
    async def unary(_: web.Request) -> web.StreamResponse:
        return web.json_response({"choices": [{"message": {"role": "assistant", "content": "hi"}}]})

    apps = PathApps({}, dict.fromkeys(PathName, unary))
    runners = []

    def serve(path: PathName) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            headers = {name.lower(): value for name, value in request.headers.items()}
            apps.seen.append((path, headers, await request.read()))
            apps.open_requests += 1
            apps.arrived.set()
            try:
                return await apps.handlers[path](request)
            finally:
                apps.open_requests -= 1
                apps.closed.set()

        return handle

    for path in PathName:
        app = web.Application(client_max_size=32 * 1024 * 1024)
        app.router.add_post("/v1/{operation:.*}", serve(path))
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        apps.base_urls[path] = f"http://127.0.0.1:{port}"
        runners.append(runner)
    try:
        yield apps
    finally:
        for runner in runners:
            await runner.cleanup()
