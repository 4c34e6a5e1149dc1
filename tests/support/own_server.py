"""An application behind uvicorn, in this loop and on a port of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import uvicorn

from hybridroute_serve.wire.asgi import ASGIApp
from hybridroute_serve.wire.http_protocol import HttpProtocol

__all__ = ["serving"]


@asynccontextmanager
async def serving(app: ASGIApp, protocol: type[HttpProtocol] = HttpProtocol) -> AsyncIterator[int]:
    """Serve meanwhile; gives the port on 127.0.0.1."""
    config = uvicorn.Config(
        app, port=0, http=protocol, lifespan="off", log_level="critical", access_log=False
    )
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task
