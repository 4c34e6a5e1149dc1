"""What a gateway costs: the same requests through each of several, and straight to the upstream, in interleaved rounds.

    nice -n -10 python -m benchmarks.gateway WORK [--peers hybridroute,bare,litellm] [--rounds 5] [--seconds 4] ...

WORK is a folder for the gateways (see `peers`). All of them are up for the whole run, before one fast scripted
upstream, and idle but for the one that is measured. A round is: for each kind of load, every gateway in turn, so that
what else the machine does meets all alike; compare figures of one run only, and ratios rather than figures.
`hybridroute` has all features on: a dollar budget, API keys with limits and budgets of their own, retry budget,
breaker, records and metrics. `bare` is the same route without them (`benchmarks.bare`). The others are configured as
`peers` says. `merged`, if it is named, is `hybridroute` with router and llm-proxy in one process (`benchmarks.merged`),
`wrapped` with all that Ray Serve does for each request (`benchmarks.wrapped`).
"""

import argparse
import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Final

import psutil
from benchmarks import bare, merged, wrapped
from benchmarks.comparison import Compared, comparison_parser, named, parse_comparison, write_comparison
from benchmarks.fast_upstream import RunningUpstream, running_upstream
from benchmarks.gateway_plot import plot_gateways
from benchmarks.gateway_report import report
from benchmarks.paced import read_paced
from benchmarks.peers import PEERS, Demand, Entry, PeerError, install, running_peer, started_hybridroute
from benchmarks.process_usage import CpuMeter, resident_mib
from benchmarks.wrk import WrkError, run_wrk

__all__ = ["Cell", "Measurement"]

OURS: Final = PEERS[0]
BARE, MERGED, WRAPPED = (
    replace(OURS, name=name, start=partial(started_hybridroute, import_paths=module.IMPORT_PATHS))
    for name, module in (("bare", bare), ("merged", merged), ("wrapped", wrapped))
)
ROUTES: Final = (OURS, BARE, MERGED, WRAPPED)
GATEWAYS: Final = (OURS, BARE, *PEERS[1:])
"""Those that are compared unless others are named."""
DIRECT: Final = "direct"
MESSAGES: Final = [{"role": "user", "content": "Hello, please say something short and friendly."}]
WARM_UP_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 0.3
"""After each measurement: what it has left to do is not the next one's."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of load."""

    name: str
    connections: int
    stream: bool = False
    paced: bool = False


CELLS: Final = (
    Cell("requests_16", 16),
    Cell("requests_128", 128),
    Cell("requests_1", 1),
    Cell("streams_16", 16, stream=True),
    Cell("paced", 1, stream=True, paced=True),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One gateway under one kind of load, once."""

    gateway: str
    cell: str
    round: int
    values: dict[str, float]
    """`per_second`, `p50_ms`, `p99_ms`, `cpu_ms` (of all the gateway's processes, per request) and `rss_mib`; of paced
    streams `first_ms` and `chunk_ms`."""
    others: float
    """Share of the machine's processors that went to neither client, gateway nor upstream."""


@dataclass(slots=True)
class Bench:
    """The upstream and the gateways that are up."""

    arguments: argparse.Namespace
    upstream: RunningUpstream
    entries: dict[str, Entry]
    without_streams: set[str] = field(default_factory=set)
    """Gateways that answered no stream in the warm-up."""

    async def warm_up(self, gateway: str, missing: list[str]) -> None:
        """Put a little of both kinds of load on one gateway, and leave out what it does not answer."""
        body = {"messages": MESSAGES, "max_tokens": 64}
        entry = self.entries[gateway]
        try:
            await run_wrk(entry, body | {"stream": False}, connections=16, seconds=WARM_UP_SECONDS)
        except WrkError as error:
            missing.append(f"{gateway}: {error}")
            del self.entries[gateway]
            return
        try:
            await run_wrk(entry, body | {"stream": True}, connections=16, seconds=WARM_UP_SECONDS)
        except WrkError as error:
            missing.append(f"{gateway}, streams: {error}")
            self.without_streams.add(gateway)

    async def measure(self, gateway: str, cell: Cell, number: int) -> Measurement:
        """Put one kind of load on one gateway. Raises `WrkError`, `OSError` and `ValueError`."""
        entry = self.entries[gateway]
        processes = entry.processes()
        meter, upstream = CpuMeter.of(processes), CpuMeter.of([self.upstream.process])
        machine, own = psutil.cpu_times(), client_seconds()
        if cell.paced:
            paced = await asyncio.to_thread(read_paced, entry, self.arguments.streams)
            values = {"first_ms": paced.first_ms, "chunk_ms": paced.chunk_ms}
        else:
            body = {"messages": MESSAGES, "max_tokens": 64, "stream": cell.stream}
            wrk = await run_wrk(entry, body, connections=cell.connections, seconds=self.arguments.seconds)
            cpu_seconds = meter.seconds(entry.processes())
            values = {
                "per_second": wrk.per_second,
                "p50_ms": wrk.p50_ms,
                "p99_ms": wrk.p99_ms,
                "cpu_ms": 1000 * cpu_seconds / wrk.requests,
                "rss_mib": resident_mib(entry.processes()),
            }
        after = psutil.cpu_times()
        total = sum(after) - sum(machine)
        idle = after.idle - machine.idle
        known = client_seconds() - own + upstream.seconds([self.upstream.process])
        known += meter.seconds(entry.processes()) if gateway != DIRECT else 0.0
        return Measurement(gateway, cell.name, number, values, max(0.0, (total - idle - known) / total))


def client_seconds() -> float:
    """Return the CPU seconds of this process and the clients that it has started and that have ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def match_priority(processes: list[psutil.Process]) -> None:
    """Run a gateway at the priority of this benchmark: some set their own, and the machine may be shared."""
    for process in processes:
        process.nice(os.nice(0))


@asynccontextmanager
async def all_up(arguments: argparse.Namespace, compared: Compared[Measurement]) -> AsyncIterator[Bench]:
    """Start the upstream and every gateway, warm; what cannot take part is said in `compared.missing`."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(running_upstream(arguments.work / "upstream.log"))
        direct = Entry(f"{upstream.base_url}/chat/completions", processes=lambda: [upstream.process])
        bench = Bench(arguments, upstream, {DIRECT: direct})
        for peer in arguments.peers:
            try:
                compared.versions[peer.name] = await install(peer, arguments.work)
                demand = Demand((upstream.base_url,), attempt_seconds=60)
                if peer in ROUTES:
                    demand = replace(
                        demand, budget_usd=Decimal(1_000_000), client_key="sk-benchmark-0123456789"
                    )
                entry = await stack.enter_async_context(running_peer(peer, arguments.work, demand))
            except PeerError as error:
                compared.missing.append(f"{peer.name}: {error}")
                continue
            match_priority(entry.processes())
            bench.entries[peer.name] = entry
        for name in list(bench.entries):
            await bench.warm_up(name, compared.missing)
        yield bench


async def run_all(arguments: argparse.Namespace) -> Compared[Measurement]:
    """Measure all, rounds interleaved."""
    compared = Compared[Measurement]()
    async with all_up(arguments, compared) as bench:
        for number in range(arguments.rounds):
            for cell in arguments.cells:
                for gateway in bench.entries:
                    if cell.stream and gateway in bench.without_streams:
                        continue
                    try:
                        one = await bench.measure(gateway, cell, number)
                    except (WrkError, OSError, ValueError) as error:
                        compared.missing.append(f"{gateway}, {cell.name}, round {number + 1}: {error}")
                        continue
                    compared.measurements.append(one)
                    figures = ", ".join(f"{name} {value:.3f}" for name, value in one.values.items())
                    print(
                        f"{number + 1} {cell.name} {gateway}: {figures}, others {one.others:.0%}", flush=True
                    )
                    await asyncio.sleep(PAUSE_SECONDS)
    return compared


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    peers = {peer.name: peer for peer in (*ROUTES, *PEERS)}
    cells = {cell.name: cell for cell in CELLS}
    parser = comparison_parser(__doc__, name="gateway", rounds=3)
    parser.add_argument("--peers", type=partial(named, peers), default=list(GATEWAYS))
    parser.add_argument("--cells", type=partial(named, cells), default=list(CELLS))
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--streams", type=int, default=8, help="paced ones of each measurement")
    return parse_comparison(parser)


def main() -> None:
    """Measure, and write table, plot and numbers."""
    arguments = parse_arguments()
    compared = asyncio.run(run_all(arguments))
    found = [asdict(one) for one in compared.measurements]
    write_comparison(
        arguments,
        compared,
        module="benchmarks.gateway",
        report=partial(report, found, compared.versions, compared.missing, seconds=arguments.seconds),
        plot=partial(plot_gateways, found),
        caption="requests, streams, latency and processor time of each gateway",
    )


if __name__ == "__main__":
    main()
