"""Processor time a request of router and llm-proxy, in one process and without Ray: for changes to the hot path.

    python -m benchmarks.hot_path [--kinds full,merged,bare] [--requests 300] [--rounds 12] [--profile FOLDER]

Client, upstream, keeper, llm-proxy and router are servers of one event loop, joined over loopback; what is counted is
the process's own time, which other processes of a busy machine stretch little, where requests/s say nothing. The part
of client and upstream is measured without a gateway and taken off. `full`: everything on, as in `benchmarks.gateway`.
`bare`: `benchmarks.bare`. `merged`: everything on, and the router calls the llm-proxy as a function instead of over
HTTP, which nothing but this benchmark does. Serve and HAProxy are not in it. The kinds take turns, and each is compared
with the last named.
"""

import argparse
import asyncio
import cProfile
import gc
import json
import os
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

import uvicorn
import uvloop
import yaml
from benchmarks.bare import BareLlmProxy, BareRouter
from benchmarks.comparison import named
from benchmarks.fast_upstream import FastProtocol
from benchmarks.gateway_report import shown
from benchmarks.merged import CalledPath
from benchmarks.peers import CLIENTS_FILE, GENEROUS_LIMITS, Demand, route_document
from benchmarks.provider import HOST, free_port

from hybridroute_api.serving import KeeperArgs, LlmProxyArgs, RouterArgs
from hybridroute_api.v1alpha1.resource import HybridRoute
from hybridroute_cli.upstreams import find_upstreams
from hybridroute_render.live import render_live_policy
from hybridroute_serve.apps.replica import collect_seldom
from hybridroute_serve.keeper.app import build_keeper_app
from hybridroute_serve.router.app import RouterApp
from hybridroute_serve.routing.embedding import load_static_embedder
from hybridroute_serve.upstream.replica import LlmProxyReplica
from hybridroute_serve.wire.asgi import ASGIApp
from hybridroute_serve.wire.http_protocol import HttpProtocol

KEY: Final = "sk-benchmark-0123456789"
TOKEN: Final = "internal-token-of-a-benchmark"
PATH: Final = "/v1/chat/completions"
CONNECTIONS: Final = 16
STREAMS_PER_REQUEST: Final = 4
"""A stream costs several times a request, so there are fewer of them."""
SHIPPED_SECONDS: Final = 0.3
"""Until the journals' lines have reached the keeper: that is a part of what a request costs."""
EXPOSITION: Final = b"".join(
    b'haproxy_backend_active_servers{proxy="http-%b"} %d\n' % pair
    for pair in ((b"llm-proxy", 1), (b"router", 1), (b"slm", 0))
)


class Client(asyncio.Protocol):
    """Sends one request again and again until the count of all clients is used up."""

    def __init__(self, request: bytes, left: list[int], failed: list[bytes]) -> None:
        self._request, self._left, self._failed = request, left, failed
        self._received = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the gateway hung up"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        head = head.lower()
        if b"chunked" in head:
            whole = body.endswith(b"0\r\n\r\n")
        else:
            whole = len(body) >= int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        if whole:
            if b" 200 " not in head[:16]:
                self._failed.append(self._received)
            self._send()

    def _send(self) -> None:
        if not self._left[0]:
            self.done.set_result(None)
            self._transport.close()
            return
        self._left[0] -= 1
        self._received = b""
        self._transport.write(self._request)


async def ask(port: int, count: int, *, stream: bool) -> list[bytes]:
    """Send so many requests over `CONNECTIONS`; returns the answers that were none."""
    message = {"role": "user", "content": "Hello, please say something short and friendly."}
    body = {"model": "hybridroute", "messages": [message], "max_tokens": 64, "stream": stream}
    content = json.dumps(body).encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
    head += f"authorization: Bearer {KEY}\r\ncontent-length: {len(content)}\r\n\r\n"
    left, failed = [count], []
    loop = asyncio.get_running_loop()
    make = partial(Client, head.encode() + content, left, failed)
    clients = [(await loop.create_connection(make, HOST, port))[1] for _ in range(CONNECTIONS)]
    await asyncio.gather(*(client.done for client in clients))
    return failed


@dataclass(slots=True)
class Rig:
    """Ports of what runs in the loop."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    servers: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self, kind: str) -> None:
        """Start everything."""
        loop = asyncio.get_running_loop()
        self.ports = {name: free_port() for name in ("upstream", "exporter", "keeper", "llm-proxy", "router")}
        await loop.create_server(FastProtocol, HOST, self.ports["upstream"])
        await asyncio.start_server(expose, HOST, self.ports["exporter"])
        keeper_args, llm_args, router_args = self.arguments()
        await self.serve("keeper", build_keeper_app(keeper_args))
        if kind == "bare":
            llm_proxy = await BareLlmProxy(llm_args).build_app()
            router: RouterApp = BareRouter(router_args, load_static_embedder(), replica="router-1")
        else:
            llm_proxy = await LlmProxyReplica(llm_args, replica="llm-proxy-1").build_app()
            router = RouterApp(router_args, load_static_embedder(), replica="router-1")
        await self.serve("llm-proxy", llm_proxy)
        await self.serve("router", router)
        if kind == "merged":
            router._parts = replace(router._parts, paths=CalledPath(llm_proxy, TOKEN, router._parts.paths))  # type: ignore[arg-type]

    async def serve(self, name: str, app: ASGIApp) -> None:
        """Serve an application as Serve's replicas do: uvicorn with our protocol."""
        config = uvicorn.Config(
            app,
            host=HOST,
            port=self.ports[name],
            http=HttpProtocol,
            access_log=False,
            log_level="warning",
            timeout_keep_alive=90,
        )
        server = uvicorn.Server(config)
        server.capture_signals = nullcontext  # type: ignore[method-assign]
        self.servers.append(asyncio.create_task(server.serve()))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)

    def arguments(self) -> tuple[KeeperArgs, LlmProxyArgs, RouterArgs]:
        """Write what the applications read, and return their arguments."""
        folder = self.folder
        for name, text in (
            ("token", TOKEN),
            ("metrics-token", TOKEN),
            (CLIENTS_FILE, yaml.safe_dump([{"name": "benchmark", "keys": [KEY], **GENEROUS_LIMITS}])),
            ("live.json", self.policy()),
        ):
            (folder / name).write_text(text)
        for name in ("journal", "state"):
            (folder / name).mkdir()
        url = {name: f"http://{HOST}:{port}" for name, port in self.ports.items()}
        common = {"route": "benchmark", "token_file": str(folder / "token")}
        reports = {"keeper_url": url["keeper"], "journal_dir": str(folder / "journal")}
        keeper = KeeperArgs(
            **common,
            metrics_token_file=str(folder / "metrics-token"),
            state_dir=str(folder / "state"),
            live_file=str(folder / "live.json"),
        )
        router = RouterArgs(
            **common,
            **reports,
            slm_url=url["llm-proxy"],
            llm_url=url["llm-proxy"],
            slm_backend_metrics_url=url["exporter"],
            slm_backend="http-slm",
            llm_backend_metrics_url=url["exporter"],
            llm_backend="http-llm-proxy",
            router_backend="http-router",
        )
        return keeper, LlmProxyArgs(**common, **reports), router

    def policy(self) -> str:
        """Return the live policy of the route that `benchmarks.gateway` measures."""
        demand = Demand(
            (f"http://{HOST}:{self.ports['upstream']}/v1",),
            attempt_seconds=60,
            budget_usd=Decimal(1_000_000),
            client_key=KEY,
        )
        document = route_document(demand)
        document["spec"]["auth"]["apiKeysFile"] = str(self.folder / CLIENTS_FILE)
        route = HybridRoute.model_validate(document)
        sources = find_upstreams(
            route, route_file=self.folder / "route.yaml", secrets_dir=self.folder, environ={}, stand_in_url=""
        )
        return render_live_policy(route, sources.resolved).model_dump_json()


async def expose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say what HAProxy's exporter would say of the paths."""
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(EXPOSITION), EXPOSITION))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve_rounds(kind: str, arguments: argparse.Namespace, folder: Path, orders: TextIO) -> None:
    """Measure a round whenever the parent says so, and print what was found; profile when it says that."""
    rig = Rig(folder)
    await rig.start(kind)
    while await ask(rig.ports["router"], 64, stream=False):  # noqa: ASYNC110 - nothing says that all is there
        await asyncio.sleep(0.2)  # the keeper's first lease is on its way
    # As Serve and `apps.replica` do in each replica.
    collect_seldom()
    gc.collect()
    gc.freeze()
    loop = asyncio.get_running_loop()
    print("{}", flush=True)
    while order := (await loop.run_in_executor(None, orders.readline)).strip():
        if order == "profile":
            await write_profiles(rig, kind, arguments)
        found = {name: await measure(rig, kind, arguments, name) for name in ("request", "stream")}
        print(json.dumps(found), flush=True)


async def measure(rig: Rig, kind: str, arguments: argparse.Namespace, name: str) -> float:
    """Return µs a request or a stream, less what client and upstream take by themselves."""
    count = arguments.requests // (1 if name == "request" else STREAMS_PER_REQUEST)
    spent = {}
    for where in ("upstream", "router"):
        before = time.process_time()
        failed = await ask(rig.ports[where], count, stream=name == "stream")
        if where == "router":
            await asyncio.sleep(SHIPPED_SECONDS)
        spent[where] = time.process_time() - before
        if failed:
            raise SystemExit(f"{kind}: {len(failed)} of {count} failed, such as {failed[0][:300]!r}")
    return 1e6 * (spent["router"] - spent["upstream"]) / count


async def write_profiles(rig: Rig, kind: str, arguments: argparse.Namespace) -> None:
    """Profile a round of requests and one of streams."""
    arguments.profile.mkdir(parents=True, exist_ok=True)
    for name, count in (
        ("request", arguments.requests),
        ("stream", arguments.requests // STREAMS_PER_REQUEST),
    ):
        profile = cProfile.Profile(time.process_time)
        profile.enable()
        await ask(rig.ports["router"], count, stream=name == "stream")
        profile.disable()
        profile.dump_stats(arguments.profile / f"{kind}-{name}.prof")


class Child:
    """One kind in a process of its own."""

    def __init__(self, kind: str, arguments: argparse.Namespace) -> None:
        self.kind = kind
        told, self._tell = os.pipe()
        heard, says = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._tell)
            os.dup2(says, 1)
            with tempfile.TemporaryDirectory() as folder, os.fdopen(told) as orders:
                uvloop.run(serve_rounds(kind, arguments, Path(folder), orders))
                os._exit(0)  # uvicorn's servers and what they have in hand end with the process
        os.close(told)
        os.close(says)
        self._heard = os.fdopen(heard)

    def hear(self) -> dict[str, float]:
        """Return what the child found."""
        line = self._heard.readline()
        if not line:
            raise SystemExit(f"{self.kind} was not measured")
        found: dict[str, float] = json.loads(line)
        return found

    def order(self, what: str) -> dict[str, float]:
        """Have a round measured, or end the child with an empty line."""
        os.write(self._tell, f"{what}\n".encode())
        if what:
            return self.hear()
        os.waitpid(self._pid, 0)
        return {}


def main() -> None:
    """Measure the kinds in turns, each in a process of its own."""
    kinds = {name: name for name in ("full", "merged", "bare")}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", type=partial(named, kinds), default=list(kinds))
    parser.add_argument(
        "--requests", type=int, default=300, help="of each round, and a quarter as many streams"
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--profile", type=Path, help="folder for cProfile's files")
    arguments = parser.parse_args()
    children = []
    for kind in arguments.kinds:
        children.append(Child(kind, arguments))
        children[-1].hear()
    rounds = [{child.kind: child.order("round") for child in children} for _ in range(arguments.rounds)]
    for child in children:
        if arguments.profile is not None:
            child.order("profile")
        child.order("")
    last = children[-1].kind
    for name in ("request", "stream"):
        for child in children:
            values = [one[child.kind][name] for one in rounds]
            quiet = sorted(values)[: max(1, len(values) // 4)]
            ratios = [one[child.kind][name] / one[last][name] for one in rounds]
            print(
                f"{child.kind}: {shown(values, '{:.0f}')} µs a {name}, {sum(quiet) / len(quiet):.0f} in the quietest"
                f" quarter of rounds; {shown(ratios, '{:.2f}')} times {last} of the same round"
            )


if __name__ == "__main__":
    main()
