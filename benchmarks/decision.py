"""How long the router thinks: routing text, embedding, scores and gates, on one core.

    python benchmarks/decision.py examples/hybridroute.yaml [--rounds 3000] [--json]

Two clocks: `cpu` is what the decision costs the core, `wall` adds what other processes take of it and equals
`cpu` on an idle machine. Fails when the cpu's p99 passes 1.5 ms for prompts to 2,000 characters, or 3 ms at any
length.
"""

import argparse
import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_cli.documents import load_route
from hybridroute_render.live import ResolvedUpstream, render_live_policy
from hybridroute_serve.routing.decision import decide_route
from hybridroute_serve.routing.embedding import load_static_embedder
from hybridroute_serve.routing.examples import ExamplesScorer
from hybridroute_serve.routing.facts import PathHealth, RequestFacts
from hybridroute_serve.routing.text import routing_text

LENGTHS = (20, 200, 2_000, 100_000, 1_000_000)
SHORT = 2_000
SHORT_LIMIT_MICROSECONDS = 1_500.0
ANY_LIMIT_MICROSECONDS = 3_000.0
WARM_UP = 100

WORDS = (
    *(
        "my",
        "card",
        "was",
        "declined",
        "in",
        "a",
        "shop",
        "yesterday",
        "and",
        "the",
        "payment",
        "for",
        "rent",
    ),
    *("did", "not", "go", "out", "please", "tell", "me", "why", "balance", "transfer", "statement", "abroad"),
    *("überweisung", "conférence", "12.50", "17:45", "account_id=4711", "{json: true}"),
)

Prompts = Callable[[int, random.Random], str]


def words(length: int, chance: random.Random) -> str:
    """Return text of different words each time, so that no tokenizer's cache answers."""
    block = " ".join(chance.choice(WORDS) for _ in range(min(length, 4_000) // 2 + 1))
    return (block * (length // len(block) + 1))[:length]


def emoji(length: int, chance: random.Random) -> str:
    return chance.choice("🙂🚀💳") * length


def blank(length: int, chance: random.Random) -> str:
    return chance.choice(" \n") * length


def letters(length: int, chance: random.Random) -> str:
    return chance.choice("abc") * length


KINDS: dict[str, Prompts] = {"words": words, "emoji": emoji, "one letter": letters, "blank": blank}


@dataclass(frozen=True, slots=True)
class Row:
    prompt: str
    characters: int
    wall_p50_us: float
    wall_p99_us: float
    cpu_p50_us: float
    cpu_p99_us: float
    limit_us: float


def measure(decide: Callable[[str], object], kind: str, length: int, rounds: int) -> Row:
    """Time decisions one by one. Prompts are made before the clocks start."""
    chance = random.Random(length)
    pool = [KINDS[kind](length, chance) for _ in range(min(rounds, 4_000_000 // length + 1))]
    for index in range(min(WARM_UP, rounds)):
        decide(pool[index % len(pool)])
    gc.collect()
    wall, cpu = [], []
    for index in range(rounds):
        prompt = pool[index % len(pool)]
        wall_start, cpu_start = time.perf_counter_ns(), time.process_time_ns()
        decide(prompt)
        cpu.append((time.process_time_ns() - cpu_start) / 1_000)
        wall.append((time.perf_counter_ns() - wall_start) / 1_000)
    wall.sort()
    cpu.sort()
    median, high = rounds // 2, rounds * 99 // 100
    limit = SHORT_LIMIT_MICROSECONDS if length <= SHORT else ANY_LIMIT_MICROSECONDS
    return Row(kind, length, wall[median], wall[high], cpu[median], cpu[high], limit)


def decider(route: HybridRoute) -> Callable[[str], object]:
    upstreams = [ResolvedUpstream(upstream.name, upstream.base_url) for upstream in route.spec.llm.upstreams]
    policy = render_live_policy(route, tuple(upstreams))
    scorer = ExamplesScorer(
        load_static_embedder(), policy.routing.local_examples, policy.routing.remote_examples
    )
    health = PathHealth()

    def decide(prompt: str) -> object:
        # Few tokens, whatever the length: the capability gate would spare long prompts the scores.
        facts = RequestFacts(
            requested_model="hybridroute", text=routing_text(prompt), estimated_prompt_tokens=8
        )
        return decide_route(facts, policy, scorer, health)

    return decide


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("route", type=Path)
    parser.add_argument("--rounds", type=int, default=3_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before any library starts threads
    decide = decider(load_route(options.route))
    rows = [measure(decide, kind, length, options.rounds) for kind in KINDS for length in LENGTHS]
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(f"{'microseconds':10}          cpu p50    cpu p99   wall p50   wall p99      limit")
        for row in rows:
            print(
                f"{row.prompt:10} {row.characters:>9,} {row.cpu_p50_us:>10.0f} {row.cpu_p99_us:>10.0f} "
                f"{row.wall_p50_us:>10.0f} {row.wall_p99_us:>10.0f} {row.limit_us:>10.0f}"
            )
    return 0 if all(row.cpu_p99_us < row.limit_us for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
