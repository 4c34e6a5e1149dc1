"""Readiness of a path as HAProxy's exporter tells it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from hybridroute_serve.router.backends import (
    RESTART_SECONDS,
    BackendMonitor,
    ExporterWatch,
    parse_active_servers,
)

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
    reads: int = 0


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    made = Exporter()

    async def metrics(_: web.Request) -> web.Response:
        made.reads += 1
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


def test_a_backend_is_down_until_it_is_known_and_restarting_only_for_a_while():
    now = 0.0
    downs: list[float] = []
    monitor = BackendMonitor("http-slm", clock=lambda: now, on_down=lambda: downs.append(now))
    assert (monitor.ready, monitor.restarting) == (False, True)

    monitor.note({"http-slm": 1, "http-router": 3})
    assert (monitor.ready, monitor.restarting, monitor.ready_replicas) == (True, False, 1)

    now = 100.0
    monitor.note({"http-router": 3})
    assert (monitor.ready, monitor.restarting, downs) == (False, True, [100.0])
    now += RESTART_SECONDS
    assert not monitor.restarting


async def test_two_failed_reads_change_nothing_and_the_third_means_down(exporter):
    async with aiohttp.ClientSession() as session:
        monitor = BackendMonitor("http-slm")
        watch = ExporterWatch(session, exporter.url, [monitor])
        exporter.ready = 1
        await watch.poll()
        exporter.status = 503
        await watch.poll()
        await watch.poll()
        assert monitor.ready
        await watch.poll()
        assert not monitor.ready


async def test_a_new_replica_knows_of_its_paths_before_its_first_request(exporter):
    async with aiohttp.ClientSession() as session:
        slm, llm = BackendMonitor("http-slm"), BackendMonitor("http-llm-proxy")
        watch = ExporterWatch(session, exporter.url, [slm, llm])
        exporter.ready = 2
        await watch.start()
        try:
            assert (slm.ready_replicas, llm.ready_replicas, exporter.reads) == (2, 0, 1)
        finally:
            await watch.stop()
