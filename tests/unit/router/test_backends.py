"""Readiness of a path as HAProxy's exporter tells it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from hybridroute_serve.router.backends import RESTART_SECONDS, BackendMonitor, parse_active_servers

EXPOSITION = b"""# HELP haproxy_backend_active_servers Total number of active UP servers with a non-zero weight
# TYPE haproxy_backend_active_servers gauge
haproxy_backend_active_servers{proxy="http-slm"} 2
haproxy_backend_active_servers{proxy="http-llm-proxy"} 0
haproxy_backend_status{proxy="http-slm",state="UP"} 1
"""


@dataclass
class Exporter:
    url: str = ""
    ready: int = 0
    status: int = 200
    now: float = 0.0


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    made = Exporter()

    async def metrics(_: web.Request) -> web.Response:
        text = f'haproxy_backend_active_servers{{proxy="http-slm"}} {made.ready}\n'
        return web.Response(status=made.status, text=text)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    yield made
    await runner.cleanup()


def test_ready_servers_are_read_by_backend():
    assert parse_active_servers(EXPOSITION) == {"http-slm": 2, "http-llm-proxy": 0}
    assert parse_active_servers(b"nothing of the kind") == {}


async def test_a_backend_is_down_until_it_is_known_and_restarting_only_for_a_while(exporter):
    async with aiohttp.ClientSession() as session:
        downs: list[float] = []
        monitor = BackendMonitor(
            session,
            exporter.url,
            "http-slm",
            clock=lambda: exporter.now,
            on_down=lambda: downs.append(exporter.now),
        )
        assert (monitor.ready, monitor.restarting) == (False, True)

        exporter.ready = 1
        await monitor.poll()
        assert (monitor.ready, monitor.restarting, monitor.ready_replicas) == (True, False, 1)

        exporter.ready, exporter.now = 0, 100.0
        await monitor.poll()
        assert (monitor.ready, monitor.restarting, downs) == (False, True, [100.0])
        exporter.now += RESTART_SECONDS
        assert not monitor.restarting


async def test_two_failed_reads_change_nothing_and_the_third_means_down(exporter):
    async with aiohttp.ClientSession() as session:
        monitor = BackendMonitor(session, exporter.url, "http-slm")
        exporter.ready = 1
        await monitor.poll()
        exporter.status = 503
        await monitor.poll()
        await monitor.poll()
        assert monitor.ready
        await monitor.poll()
        assert not monitor.ready


async def test_a_new_replica_knows_of_its_paths_before_its_first_request(exporter):
    async with aiohttp.ClientSession() as session:
        monitor = BackendMonitor(session, exporter.url, "http-slm")
        exporter.ready = 1
        await monitor.start()
        try:
            assert monitor.ready
        finally:
            await monitor.stop()
