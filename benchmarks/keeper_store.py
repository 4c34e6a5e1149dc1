"""What the keeper's store takes for a request as its file grows, by how requests are named.

    python -m benchmarks.keeper_store WORK [--requests 200000] [--batch 200]

Both names in turns, each into a file of its own under WORK: `ordered` as the router names requests, `random` with 128
random bits. Batches of the router and of the llm-proxy are stored as the keeper stores them, one transaction each;
printed are processor time, time and bytes handed to the disk for a request, by fifths of the way.
"""

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import psutil
from benchmarks.hot_path import Rig

from hybridroute_api.records import AttemptReport, Batch, DecisionRecord, TokenUsage
from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import Api, Gate, Outcome, PathName, UsageSource
from hybridroute_serve.keeper.store import Store
from hybridroute_serve.router.request_ids import make_request_id

FIFTHS: Final = 5


def name_at_random() -> str:
    """Return a name without a time in it."""
    return f"hr-{secrets.token_hex(16)}"


NAMINGS: Final[dict[str, Callable[[], str]]] = {
    "ordered": partial(make_request_id, time.time),
    "random": name_at_random,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What storing one request took."""

    requests: int
    """Stored by then."""
    cpu_us: float
    wall_us: float
    written_kib: float


def make_batches(names: list[str]) -> tuple[Batch, Batch]:
    """Return what router and llm-proxy report of so many requests."""
    now = time.time()
    records = [
        DecisionRecord(
            request_id=name,
            route="benchmark",
            replica="router-host-123-19ac",
            api=Api.CHAT_COMPLETIONS,
            stream=False,
            requested_model="hybridroute",
            path=PathName.LLM,
            gate=Gate.CONFIDENCE,
            reason="0.412 is below 0.500",
            status=200,
            outcome=Outcome.OK,
            received_at=now,
            decision_seconds=0.0004,
            total_seconds=0.8123,
            first_byte_seconds=0.8121,
            policy_version="5b1f0c",
            confidence=0.412345,
            threshold=0.5,
            client="benchmark",
        )
        for name in names
    ]
    attempts = [
        AttemptReport(
            attempt_id=f"{name}/llm/1",
            request_id=name,
            route="benchmark",
            path=PathName.LLM,
            upstream="primary",
            model="mock",
            gate="confidence",
            started_at=now,
            total_seconds=0.81,
            outcome=Outcome.OK,
            usage=TokenUsage(20, 64, source=UsageSource.REPORTED),
            streamed=False,
            status=200,
            first_byte_seconds=0.8,
            cost_nano_usd=690_000,
            settled_nano_usd=690_000,
            lease_ids=("0f1e2d3c4b5a.17",),
        )
        for name in names
    ]
    return Batch(records=records, replica="router-1"), Batch(attempts=attempts, replica="llm-proxy-1")


def store_requests(
    folder: Path, policy: LivePolicy, naming: str, requests: int, batch: int
) -> Iterator[Cost]:
    """Store so many requests in a new file; yields what a request took, for each fifth of them."""
    store = Store(folder / f"{naming}.sqlite", "benchmark", time.time)
    process = psutil.Process()
    stored = 0
    for fifth in range(1, FIFTHS + 1):
        first, cpu, wall = stored, 0.0, 0.0
        written = process.io_counters().write_bytes
        while stored < requests * fifth // FIFTHS:
            batches = make_batches([NAMINGS[naming]() for _ in range(batch)])
            stored += batch
            cpu -= time.process_time()
            wall -= time.perf_counter()
            for one in batches:
                store.apply_batches([one], policy)
            cpu += time.process_time()
            wall += time.perf_counter()
        written = process.io_counters().write_bytes - written
        count = stored - first
        yield Cost(stored, 1e6 * cpu / count, 1e6 * wall / count, written / 1024 / count)
    store.close()


def main() -> int:
    """Measure both, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder on the disk that is to be measured")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=200, help="requests of one report")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        rig = Rig(Path(folder), dict.fromkeys(("upstream", "exporter", "keeper", "llm-proxy", "router"), 1))
        policy = LivePolicy.model_validate_json(rig.policy())
        ways = {
            naming: store_requests(Path(folder), policy, naming, arguments.requests, arguments.batch)
            for naming in NAMINGS
        }
        print("| names | requests stored | CPU-µs a request | µs a request | KiB written a request |")
        print("|---|---|---|---|---|")
        for _ in range(FIFTHS):
            for naming, way in ways.items():
                cost = next(way)
                print(
                    f"| {naming} | {cost.requests:,} | {cost.cpu_us:.0f} | {cost.wall_us:.0f} |"
                    f" {cost.written_kib:.1f} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
