"""An API server that fails on order: a proxy in front of the real one, for the process that is given its kubeconfig.

A fault is decided for each call by the test: an answer with a code in place of the call, or, `lost`, the call done and
its answer kept back. Watches are streamed through.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
from aiohttp import web

from support.api_server import ApiServer

__all__ = ["LOST", "ApiProxy", "Call", "run_api_proxy"]

LOST = 0
"""The call is done, and the connection ends without an answer."""

_HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Call:
    """One call to the API server."""

    method: str
    path: str
    number: int
    """From 0, in the order in which they came."""
    is_watch: bool

    @property
    def is_write(self) -> bool:
        """Whether it changes something, events and Leases apart."""
        return self.method in _WRITES and not any(
            plural in self.path for plural in ("/events", "/leases", "/selfsubject")
        )


def _no_fault(_: Call) -> int | None:
    return None


@dataclass
class ApiProxy:
    """A running proxy. `fault` says what happens to a call: None passes it on, a code or `LOST` is its end."""

    server: ApiServer
    """As the process behind the proxy sees it."""
    fault: Callable[[Call], int | None] = _no_fault
    calls: list[Call] = field(default_factory=list)
    faults: int = 0
    _url: str = ""

    async def handle(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        """Pass one call on, or fail it."""
        is_watch = request.query.get("watch") in ("true", "1")
        call = Call(request.method, request.path, len(self.calls), is_watch)
        self.calls.append(call)
        code = self.fault(call)
        self.faults += code is not None
        if code is not None and code != LOST:
            return _failure(code)
        body = await request.read()
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        timeout = aiohttp.ClientTimeout(total=None)
        async with session.request(
            request.method,
            self._url + request.raw_path,
            data=body or None,
            headers=headers,
            skip_auto_headers=("Content-Type",),  # the API server refuses one that the caller did not send
            timeout=timeout,
        ) as answer:
            if code == LOST:
                await answer.read()
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            passed = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
            passed.pop("Content-Encoding", None)
            stream = web.StreamResponse(status=answer.status, headers=passed)
            await stream.prepare(request)
            async for chunk in answer.content.iter_any():
                await stream.write(chunk)
            await stream.write_eof()
            return stream


@contextmanager
def run_api_proxy(server: ApiServer, directory: Path) -> Iterator[ApiProxy]:
    """Run a proxy in a thread of its own; its `server` has kubeconfigs that lead through it."""
    proxy = ApiProxy(server, _url=server.url)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    ports: list[int] = []
    stopping = asyncio.Event()

    async def serve() -> None:
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=True) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                try:
                    return await proxy.handle(request, session)
                except (ConnectionError, aiohttp.ClientError):
                    return web.Response(status=502)  # one of the two sides has ended

            app = web.Application(client_max_size=64 * 1024 * 1024)
            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            ports.append(runner.addresses[0][1])
            ready.set()
            await stopping.wait()
            await runner.cleanup()
        await asyncio.sleep(0.25)  # connections under TLS end in the loop's next turns

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(30)
    proxy.server = replace(
        server,
        url=f"http://127.0.0.1:{ports[0]}",
        kubeconfig=_through(server.kubeconfig, directory / "proxy-kubeconfig", ports[0]),
        operator_kubeconfig=_through(server.operator_kubeconfig, directory / "proxy-operator", ports[0]),
    )
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(30)
        loop.close()


def _through(kubeconfig: Path, target: Path, port: int) -> Path:
    document = json.loads(kubeconfig.read_text())
    document["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
    target.write_text(json.dumps(document))
    return target


def _failure(code: int) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "injected", "code": code}
    headers = {"Retry-After": "1"} if code == 429 else {}
    return web.json_response(status | {"details": {}}, status=code, headers=headers)
