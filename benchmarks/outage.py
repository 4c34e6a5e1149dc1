"""The same scripted outage for every gateway: attempts per request, client errors, latency, recovery.

    python -m benchmarks.outage WORK [--peers hybridroute,litellm] [--scenarios error,failover] [--rate 10] ...

WORK is a folder for the gateways (see `peers`). For each gateway and scenario: a fresh gateway before a
scripted provider, requests at a fixed rate, healthy for a while, then the fault, then healthy again. The provider
counts attempts and knows which request caused each. One gateway runs at a time, for about a minute.
"""

import argparse
import asyncio
import math
import os
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.comparison import Compared, comparison_parser, named, parse_comparison, write_comparison
from benchmarks.load import Sample, client_session, open_loop, percentile
from benchmarks.outage_plot import plot_outages
from benchmarks.peers import PEERS, Demand, Entry, Peer, PeerError, install, running_peer
from benchmarks.provider import Attempt, Mode, ProviderHandle, Script, running_provider

__all__ = ["Measurement", "Scenario", "measure"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What fails, and whether there is a second upstream."""

    name: str
    title: str
    fault: Mode
    upstreams: int = 1


SCENARIOS: Final = (
    Scenario("error", "Every request gets a 500", Mode.ERROR),
    Scenario("refusing", "Every connection is reset", Mode.REFUSING),
    Scenario("hanging", "No request gets an answer", Mode.HANGING),
    Scenario("throttled", "Every request gets a 429 with `Retry-After: 1`", Mode.THROTTLED),
    Scenario("half", "Half of the requests, at random, get a 500", Mode.HALF),
    Scenario("trickle", "Answers come slowly, over 10 s", Mode.TRICKLE),
    Scenario("failover", "Primary down (500), secondary up", Mode.ERROR, upstreams=2),
    Scenario("hanging-failover", "Primary answers nothing, secondary up", Mode.HANGING, upstreams=2),
)


@dataclass(frozen=True, slots=True)
class Phases:
    """Monotonic seconds."""

    start: float
    down: float
    up: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One gateway in one scenario, once. Times count from the start of the outage."""

    peer: str
    scenario: str
    round: int
    requests: int
    """That came during the outage, as everything down to `latency_p99_seconds`."""
    attempts: int
    """That they caused at all upstreams, however late."""
    attempts_per_request: float
    most_attempts: int
    """For one request."""
    errors: int
    latency_p50_seconds: float
    latency_p99_seconds: float
    healthy_p50_seconds: float
    errors_in_all: int
    """Before, during and after."""
    errors_by_status: dict[int, int]
    """In all. 0: no answer within the client's patience, or a broken connection."""
    attempts_first_second: int
    """At all upstreams in the first second after the outage, whatever caused them."""
    requests_first_second: int
    recovery_seconds: float
    """From the end of the outage to the arrival of the last request that failed; 0 when none did."""
    recovered: bool
    """False when requests still failed in the load's last second."""
    load_average: float
    """Of the machine over the last minute."""
    outage_seconds: float
    timeline: dict[str, list[int]]
    """Per second: `second`, `requests`, `attempts`, `failed` by arrival."""


def measure(
    peer: str,
    scenario: str,
    *,
    number: int,
    phases: Phases,
    samples: list[Sample],
    attempts: list[Attempt],
) -> Measurement:
    """Count what happened. Pure but for the load average."""
    during = [sample for sample in samples if phases.down <= sample.due_at < phases.up]
    before = [sample.seconds for sample in samples if sample.due_at < phases.down]
    caused = Counter(attempt.request for attempt in attempts)
    failed = [sample for sample in samples if sample.failed]
    latencies = [sample.seconds for sample in during]
    last = max(sample.due_at for sample in samples)
    count = sum(caused[sample.number] for sample in during)
    return Measurement(
        peer,
        scenario,
        round=number,
        requests=len(during),
        attempts=count,
        attempts_per_request=count / len(during),
        most_attempts=max(caused[sample.number] for sample in during),
        errors=sum(sample.failed for sample in during),
        latency_p50_seconds=percentile(latencies, 0.5),
        latency_p99_seconds=percentile(latencies, 0.99),
        healthy_p50_seconds=percentile(before, 0.5),
        errors_in_all=len(failed),
        errors_by_status=dict(Counter(sample.status for sample in failed)),
        attempts_first_second=sum(phases.up <= attempt.at < phases.up + 1 for attempt in attempts),
        requests_first_second=sum(phases.up <= sample.due_at < phases.up + 1 for sample in samples),
        recovery_seconds=max([0.0, *(sample.due_at - phases.up for sample in failed)]),
        recovered=all(sample.due_at < last - 1 for sample in failed),
        load_average=os.getloadavg()[0],
        outage_seconds=phases.up - phases.down,
        timeline=timeline(phases, samples, attempts),
    )


def timeline(phases: Phases, samples: list[Sample], attempts: list[Attempt]) -> dict[str, list[int]]:
    """Count per second, for the seconds that the load covers wholly."""

    def seconds(times: list[float]) -> Counter[int]:
        return Counter(int((at - phases.down) // 1) for at in times)

    counted = {
        "requests": seconds([sample.due_at for sample in samples]),
        "attempts": seconds([attempt.at for attempt in attempts]),
        "failed": seconds([sample.due_at for sample in samples if sample.failed]),
    }
    end = max(sample.due_at for sample in samples)
    axis = range(math.ceil(phases.start - phases.down), math.floor(end - phases.down))
    series = {name: [values[second] for second in axis] for name, values in counted.items()}
    return {"second": list(axis), **series}


async def run_scenario(
    peer: Peer, scenario: Scenario, number: int, arguments: argparse.Namespace
) -> Measurement:
    """Start provider and gateway, run the script and count. Raises `PeerError`."""
    async with AsyncExitStack() as stack:
        log = arguments.work / "provider.log"
        providers = [
            await stack.enter_async_context(running_provider(Script(), log))
            for _ in range(scenario.upstreams)
        ]
        demand = Demand(tuple(one.base_url for one in providers), replicas=arguments.replicas)
        entry = await stack.enter_async_context(running_peer(peer, arguments.work, demand))
        phases, samples = await run_script(entry, providers, scenario.fault, arguments)
        attempts = [attempt for one in providers for attempt in (await one.account()).attempts]
    return measure(peer.name, scenario.name, number=number, phases=phases, samples=samples, attempts=attempts)


async def run_script(
    entry: Entry, providers: list[ProviderHandle], fault: Mode, arguments: argparse.Namespace
) -> tuple[Phases, list[Sample]]:
    """Offer the load and switch the primary meanwhile."""
    for provider in providers:
        await provider.reset()
    seconds = arguments.healthy_seconds + arguments.outage_seconds + arguments.recovery_seconds
    async with client_session() as session, asyncio.TaskGroup() as tasks:
        start = time.monotonic()
        load = tasks.create_task(open_loop(session, entry, rate=arguments.rate, seconds=seconds, start=start))
        await asyncio.sleep(arguments.healthy_seconds)
        down = await providers[0].set_mode(fault)
        await asyncio.sleep(down + arguments.outage_seconds - time.monotonic())
        up = await providers[0].set_mode(Mode.HEALTHY)
        samples = await load
    return Phases(start, down, up), samples


async def run_all(arguments: argparse.Namespace) -> Compared[Measurement]:
    """Measure all, rounds interleaved."""
    compared = Compared[Measurement]()
    for peer in arguments.peers:
        try:
            compared.versions[peer.name] = await install(peer, arguments.work)
        except PeerError as error:
            compared.missing.append(f"{peer.name}: {error}")
    for number in range(arguments.rounds):
        for scenario in arguments.scenarios:
            for peer in arguments.peers:
                if peer.name not in compared.versions:
                    continue
                try:
                    compared.measurements.append(await run_scenario(peer, scenario, number, arguments))
                except PeerError as error:
                    compared.missing.append(f"{peer.name}, {scenario.name}, round {number + 1}: {error}")
                else:
                    print(table_row(peer.name, compared.measurements[-1:]), flush=True)
    return compared


COLUMNS: Final = (
    "gateway",
    "attempts per request",
    "most for one",
    "client errors",
    "p50",
    "p99",
    "first second after: attempts / requests",
    "last failure after",
    "p50 when healthy",
)


def table_row(peer: str, runs: list[Measurement]) -> str:
    """Return the Markdown row of one gateway's rounds: the median, and the range where there are several."""

    def shown(values: list[float], form: str) -> str:
        middle = form.format(median(values))
        several = len(values) > 1 and min(values) != max(values)
        return middle + (f" ({form.format(min(values))} to {form.format(max(values))})" if several else "")

    after = [run.attempts_first_second / max(1, run.requests_first_second) for run in runs]
    cells = [
        peer,
        shown([run.attempts_per_request for run in runs], "{:.2f}"),
        f"{max(run.most_attempts for run in runs)}",
        shown([100 * run.errors / run.requests for run in runs], "{:.0f} %"),
        shown([1000 * run.latency_p50_seconds for run in runs], "{:.0f} ms"),
        shown([1000 * run.latency_p99_seconds for run in runs], "{:.0f} ms"),
        shown(after, "{:.2f}"),
        ("" if all(run.recovered for run in runs) else "not within ")
        + shown([run.recovery_seconds for run in runs], "{:.1f} s"),
        shown([1000 * run.healthy_p50_seconds for run in runs], "{:.0f} ms"),
    ]
    return f"| {' | '.join(cells)} |"


def report(arguments: argparse.Namespace, compared: Compared[Measurement], measured: str) -> list[str]:
    """Return the Markdown."""
    lines = ["# The same outage for every gateway", "", measured]
    lines += [
        f"{arguments.rate:g} requests/s, healthy for {arguments.healthy_seconds:g} s, the fault for"
        f" {arguments.outage_seconds:g} s, healthy for {arguments.recovery_seconds:g} s; rounds:"
        f" {arguments.rounds}{' (median, least to most)' if arguments.rounds > 1 else ''}; a healthy answer takes"
        f" {1000 * Script().answer_seconds:.0f} ms, an attempt may take {Demand(()).attempt_seconds} s.",
        "",
        "Rows are about the requests that came during the fault. A client asks once and waits at most 30 s."
        " `last failure after`: arrival of the last request that failed, from the end of the fault.",
        "",
        "hybridroute runs in mode LLMOnly, so its SLM answers nothing here. With a lone upstream down, a request can"
        " only fail, at once or late, or be kept waiting until the fault is over: that is how long back-offs come to"
        " fewer errors, at the p50 shown, and to more attempts in the first second after.",
        "",
        "| gateway | version | retries | second upstream |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {peer.name} | {compared.versions[peer.name]} | {peer.retries} | {peer.fallback} |"
        for peer in arguments.peers
        if peer.name in compared.versions
    ]
    if compared.missing:
        lines += ["", "**Not measured:**", "", *(f"- {reason}" for reason in compared.missing)]
    for scenario in arguments.scenarios:
        lines += ["", f"## {scenario.title}", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        for peer in arguments.peers:
            runs = [m for m in compared.measurements if (m.peer, m.scenario) == (peer.name, scenario.name)]
            if runs:
                lines.append(table_row(peer.name, runs))
            else:
                lines.append(f"| {peer.name} | not measured {'| ' * (len(COLUMNS) - 1)}")
    return lines


def plot(arguments: argparse.Namespace, compared: Compared[Measurement], path: Path) -> None:
    """Write the PNG of the first round."""
    titles = {scenario.name: scenario.title for scenario in arguments.scenarios}
    plot_outages([asdict(one) for one in compared.measurements if one.round == 0], titles, path)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    peers = {peer.name: peer for peer in PEERS}
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    parser = comparison_parser(__doc__, name="outage", rounds=1)
    parser.add_argument("--peers", type=partial(named, peers), default=list(peers.values()))
    parser.add_argument(
        "--scenarios", type=partial(named, scenarios), default=named(scenarios, "error,failover")
    )
    parser.add_argument("--rate", type=float, default=10.0, help="requests/s")
    parser.add_argument("--healthy-seconds", type=float, default=10.0)
    parser.add_argument("--outage-seconds", type=float, default=15.0)
    parser.add_argument("--recovery-seconds", type=float, default=10.0)
    parser.add_argument("--replicas", type=int, default=1, help="of hybridroute's llm-proxy")
    return parse_comparison(parser)


def main() -> None:
    """Measure, and write table, plot and numbers."""
    arguments = parse_arguments()
    compared = asyncio.run(run_all(arguments))
    write_comparison(
        arguments,
        compared,
        module="benchmarks.outage",
        report=partial(report, arguments, compared),
        plot=partial(plot, arguments, compared),
        caption="attempts, requests and failures per second",
    )


if __name__ == "__main__":
    main()
