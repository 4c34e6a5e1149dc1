"""Health, readiness and metrics of the operator over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from hybridroute_operator.metrics import OperatorMetrics

__all__ = ["serve_probes"]

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def serve_probes(port: int, metrics: OperatorMetrics) -> AsyncIterator[int]:
    """Serve `/healthz`, `/readyz` and `/metrics` while the context lasts; yield the port that was bound.

    A replica that waits for the lease is ready: it is what takes over.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=metrics.page(), headers={"Content-Type": _METRICS_TYPE})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", healthz), web.get("/metrics", page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "0.0.0.0", port)  # noqa: S104 - the kubelet and Prometheus come from outside the pod
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
