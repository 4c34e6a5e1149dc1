"""A nearly spent dollar budget under many requests at once: dollars past the limit, by the provider's own count.

    python -m benchmarks.budget WORK [--peers hybridroute,litellm] [--limit 0.50] [--left 0.05] [--clients 256] ...

WORK is a folder for the gateways (see `peers`). For each gateway with a budget: a fresh one before a scripted provider
whose answers have lengths that nobody knows beforehand. A few clients spend the budget down to what is to be left;
then all clients ask at once, without a cap on tokens. Who gets an answer asks again at once, who is refused a little
later, so that there is demand for whatever is left. The provider bills every answer that it begins.
"""

import argparse
import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import matplotlib as mpl
from benchmarks.comparison import Compared, comparison_parser, named, parse_comparison, write_comparison
from benchmarks.load import Sample, ask, client_session
from benchmarks.peers import PEERS, Demand, Entry, Peer, PeerError, install, running_peer
from benchmarks.provider import Bill, ProviderHandle, Script, running_provider
from matplotlib.figure import Figure

__all__ = ["Measurement"]

SCRIPT: Final = Script(answer_seconds=0.05, tokens_per_second=600.0, mean_tokens=300)
SPENDING_CLIENTS: Final = 4
SETTLE_SECONDS: Final = 3.0
"""Between spending down and the rush: gateways that charge afterwards have done so by then."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One gateway, once. Dollars are the provider's."""

    peer: str
    round: int
    limit_usd: float
    left_usd: float
    """When the rush began."""
    spent_usd: float
    """In all, when the last answer had ended."""
    past_limit_usd: float
    limit_used: float
    """Share of the limit."""
    left_used: float
    """Share of what was left."""
    answers: int
    """Billed in the rush."""
    requests: int
    """Of clients in the rush."""
    statuses: dict[int, int]
    """How they ended. 0: no answer."""
    load_average: float
    spending: list[tuple[float, float]]
    """(seconds from the start of the rush, dollars in all), a point per answer."""


async def run_peer(peer: Peer, number: int, arguments: argparse.Namespace) -> Measurement:
    """Start provider and gateway, spend, rush and count. Raises `PeerError`."""
    async with AsyncExitStack() as stack:
        script = replace(SCRIPT, seed=SCRIPT.seed + number)
        provider = await stack.enter_async_context(running_provider(script, arguments.work / "provider.log"))
        demand = Demand(
            (provider.base_url,),
            budget_usd=arguments.limit,
            attempt_seconds=20,
            retries=0,
            replicas=arguments.replicas,
        )
        entry = await stack.enter_async_context(running_peer(peer, arguments.work, demand))
        async with client_session() as session:
            await spend_down(session, entry, provider, demand, arguments.limit - arguments.left)
            await asyncio.sleep(SETTLE_SECONDS)
            before = cost((await provider.account()).bills, demand)
            start = time.monotonic()
            samples = await rush(session, entry, start, arguments)
        bills = (await provider.account()).bills
    spent = cost(bills, demand)
    left = arguments.limit - before
    return Measurement(
        peer.name,
        number,
        limit_usd=float(arguments.limit),
        left_usd=float(left),
        spent_usd=float(spent),
        past_limit_usd=float(max(Decimal(0), spent - arguments.limit)),
        limit_used=float(spent / arguments.limit),
        left_used=float((spent - before) / left),
        answers=sum(bill.at >= start for bill in bills),
        requests=len(samples),
        statuses=dict(sorted(Counter(sample.status for sample in samples).items())),
        load_average=os.getloadavg()[0],
        spending=[
            (round(bill.at - start, 3), float(cost(bills[: place + 1], demand)))
            for place, bill in enumerate(bills)
            if bill.at >= start
        ],
    )


async def spend_down(
    session: aiohttp.ClientSession,
    entry: Entry,
    provider: ProviderHandle,
    demand: Demand,
    target: Decimal,
) -> None:
    """Ask with a few clients until so much is spent. Raises `PeerError` when the gateway refuses before that."""
    while (missing := target - cost((await provider.account()).bills, demand)) > 0:
        # The last steps are small, so that what is left is what was asked for.
        cap = int(missing / SPENDING_CLIENTS / demand.output_usd_per_million * 1_000_000)
        asked = [
            ask(session, entry, 0, time.monotonic(), max_tokens=max(16, min(cap, 2000)))
            for _ in range(SPENDING_CLIENTS)
        ]
        refused = [sample.status for sample in await asyncio.gather(*asked) if sample.failed]
        if refused:
            raise PeerError(f"refused ({refused[0]}) with ${missing + demand_left(demand, target):.4f} left")


def demand_left(demand: Demand, target: Decimal) -> Decimal:
    """Return what is to be left."""
    return (demand.budget_usd or Decimal(0)) - target


async def rush(
    session: aiohttp.ClientSession, entry: Entry, start: float, arguments: argparse.Namespace
) -> list[Sample]:
    """Let every client ask at once, and again until the time is over."""
    samples: list[Sample] = []
    draw = random.Random(arguments.clients)

    async def client() -> None:
        while (now := time.monotonic()) < start + arguments.seconds:
            samples.append(await ask(session, entry, len(samples), now))
            if samples[-1].failed:
                await asyncio.sleep(arguments.again_seconds * draw.uniform(0.5, 1.5))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(arguments.clients):
            tasks.create_task(client())
    return samples


def cost(bills: Sequence[Bill], demand: Demand) -> Decimal:
    """Return what answers cost at list prices."""
    prompt = sum(bill.prompt_tokens for bill in bills) * demand.input_usd_per_million
    return (
        prompt + sum(bill.completion_tokens for bill in bills) * demand.output_usd_per_million
    ) / 1_000_000


async def run_all(arguments: argparse.Namespace) -> Compared[Measurement]:
    """Measure all, rounds interleaved."""
    compared = Compared[Measurement]()
    for number in range(arguments.rounds):
        for peer in arguments.peers:
            try:
                compared.versions.setdefault(peer.name, await install(peer, arguments.work))
                compared.measurements.append(await run_peer(peer, number, arguments))
            except PeerError as error:
                compared.missing.append(f"{peer.name}, round {number + 1}: {error}")
            else:
                print(table_row(compared.measurements[-1]), flush=True)
    return compared


COLUMNS: Final = (
    "gateway",
    "left before",
    "spent in all",
    "past the limit",
    "of the limit",
    "of what was left",
    "answers billed",
    "requests by status",
)


def table_row(one: Measurement) -> str:
    """Return the Markdown row of one run."""
    statuses = ", ".join(f"{count} of {status or 'no answer'}" for status, count in one.statuses.items())
    cells = [
        one.peer,
        f"${one.left_usd:.4f}",
        f"${one.spent_usd:.4f}",
        f"**${one.past_limit_usd:.4f}**",
        f"{100 * one.limit_used:.1f} %",
        f"{100 * one.left_used:.0f} %",
        f"{one.answers}",
        statuses,
    ]
    return f"| {' | '.join(cells)} |"


def report(arguments: argparse.Namespace, compared: Compared[Measurement], measured: str) -> list[str]:
    """Return the Markdown."""
    demand = Demand(())
    lines = [
        "# A nearly spent budget",
        "",
        measured,
        f"Limit ${arguments.limit}, spent down to ${arguments.left}; then {arguments.clients} clients at once for"
        f" {arguments.seconds:g} s, refused ones again after about {arguments.again_seconds:g} s. Prices"
        f" ${demand.input_usd_per_million} in and ${demand.output_usd_per_million} out per million tokens, answers of"
        f" {SCRIPT.mean_tokens} tokens on average (exponential, to {SCRIPT.longest_tokens}) that nobody caps, at"
        f" {SCRIPT.tokens_per_second:g} tokens/s.",
        "",
        "hybridroute: `spec.budget`, `onExhausted: Reject`, the upstream's `maxOutputTokens` at its default of 2048."
        " litellm: `provider_budget_config`, a budget that needs no database, and no retries.",
        "",
        *(f"- {name} {version}" for name, version in compared.versions.items()),
        "",
    ]
    if compared.missing:
        lines += ["**Not measured:**", "", *(f"- {reason}" for reason in compared.missing), ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return [*lines, *(table_row(one) for one in compared.measurements)]


def plot(measurements: list[Measurement], path: Path) -> None:
    """Write a PNG: what was spent over time, and the limit."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(7.0, 3.4), layout="constrained")
    axes: Any = figure.subplots()
    colours = dict(zip(dict.fromkeys(one.peer for one in measurements), ("#3b76af", "#d98032"), strict=False))
    end = max((point[0] for one in measurements for point in one.spending), default=1.0)
    for one in measurements:
        start = one.limit_usd - one.left_usd
        points = [(0.0, start), *one.spending, (max(end, 1.0), one.spent_usd)]
        label = one.peer if one.round == 0 else None
        axes.step(
            *zip(*points, strict=True), where="post", color=colours[one.peer], label=label, linewidth=1.6
        )
    limit = measurements[0].limit_usd
    axes.axhline(limit, color="#c0392b", linewidth=1.2, linestyle="--")
    axes.text(0, limit, " limit", color="#c0392b", va="bottom")
    axes.set_xlabel("seconds from the start of the rush")
    axes.set_ylabel("spent at the provider, $")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="center right")
    figure.savefig(path, dpi=130)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    peers = {peer.name: peer for peer in PEERS if peer.has_budget}
    parser = comparison_parser(__doc__, name="budget", rounds=1)
    parser.add_argument("--peers", type=partial(named, peers), default=list(peers.values()))
    parser.add_argument("--limit", type=Decimal, default=Decimal("0.50"), help="dollars")
    parser.add_argument("--left", type=Decimal, default=Decimal("0.05"), help="dollars")
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--again-seconds", type=float, default=5.0)
    parser.add_argument("--replicas", type=int, default=1, help="of hybridroute's llm-proxy")
    return parse_comparison(parser)


def main() -> None:
    """Measure, and write table, plot and numbers."""
    arguments = parse_arguments()
    compared = asyncio.run(run_all(arguments))
    write_comparison(
        arguments,
        compared,
        module="benchmarks.budget",
        report=partial(report, arguments, compared),
        plot=partial(plot, compared.measurements),
        caption="dollars spent over time",
    )


if __name__ == "__main__":
    main()
