"""From a replica's journal over HTTP into the keeper's accounts, through absences and kills."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hybridroute_api.records import Batch
from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.journal import Reporter, ReporterSettings
from hybridroute_serve.journal.shipper import ShipperTiming
from hybridroute_serve.keeper.accounts import account_costs
from hybridroute_serve.keeper.reads import Reads
from hybridroute_serve.keeper.service import Keeper
from support.clocks import TurnedClock
from support.eventually import eventually
from support.keepers import TOKEN, a_keeper_app, keeper_args
from support.reports import a_record, an_attempt, an_open_request
from support.serving import free_port, running

_QUICK = ShipperTiming(
    ship_interval_seconds=0.01,
    heartbeat_interval_seconds=0.05,
    adopt_interval_seconds=0.02,
    backoff_base_seconds=0.01,
    backoff_cap_seconds=0.05,
)


def _reporter(directory: Path, url: str, replica: str = "router-1") -> Reporter:
    settings = ReporterSettings(
        journal_dir=directory / "journal",
        keeper_url=url,
        token_file=directory / "token",
        replica=replica,
        app="router",
    )
    return Reporter(settings, timing=_QUICK)


def _report(reporter: Reporter, request_id: str) -> None:
    reporter.journal.open_request(an_open_request(request_id))
    reporter.journal.close_attempt(an_attempt(request_id))
    reporter.journal.close_request(a_record(request_id))


async def _requests(keeper: Keeper) -> int:
    return int(account_costs(await keeper.read(Reads.read_totals))["requests"])


def _files(directory: Path) -> list[Path]:
    return list((directory / "journal").glob("*.jsonl"))


async def test_reports_arrive_and_a_clean_stop_leaves_nothing(tmp_path: Path, clock: TurnedClock) -> None:
    app = a_keeper_app(tmp_path, clock)
    async with running(app) as url:
        reporter = _reporter(tmp_path, url)
        await reporter.start()
        for number in range(100):
            _report(reporter, f"r{number}")
        await reporter.stop()
        keeper = app.state.keeper
        assert await _requests(keeper) == 100
        assert [replica.ended for replica in await keeper.read(Reads.read_replicas)] == [True]
    assert _files(tmp_path) == []


async def test_an_absent_keeper_costs_nothing_but_time(tmp_path: Path, clock: TurnedClock) -> None:
    port = free_port()
    keeper_args(tmp_path)
    reporter = _reporter(tmp_path, f"http://127.0.0.1:{port}")
    await reporter.start()
    for number in range(50):
        _report(reporter, f"r{number}")
    for epoch in (1, 2, 3):
        app = a_keeper_app(tmp_path, clock)
        async with running(app, port):
            keeper: Keeper = app.state.keeper
            assert keeper.epoch == epoch

            async def has_all(keeper: Keeper = keeper, epoch: int = epoch) -> bool:
                return await _requests(keeper) == 50 * epoch

            await eventually(has_all)
        for number in range(50 * epoch, 50 * (epoch + 1)):
            _report(reporter, f"r{number}")
    await reporter.stop()
    assert len(_files(tmp_path)) >= 1, "the last fifty wait for a successor"


async def test_a_rotated_token_is_read_again(
    tmp_path: Path, clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    app = a_keeper_app(tmp_path, clock)
    async with running(app) as url:
        (tmp_path / "token").write_text("of yesterday")
        reporter = _reporter(tmp_path, url)
        await reporter.start()
        _report(reporter, "r1")

        async def was_turned_away() -> bool:
            return "keeper was not reached reason=status_401" in caplog.messages

        await eventually(was_turned_away)
        assert await _requests(app.state.keeper) == 0
        (tmp_path / "token").write_text(TOKEN)

        async def has_one() -> bool:
            return await _requests(app.state.keeper) == 1

        await eventually(has_one)
        await reporter.stop()


# A replica of its own process: every request is open for a while, ten at a time. It says how many it has opened.
_REPLICA = """
import asyncio, sys
from pathlib import Path
from hybridroute_serve.journal import Reporter, ReporterSettings
from hybridroute_serve.journal.shipper import ShipperTiming
from support.reports import a_record, an_attempt, an_open_attempt, an_open_request

async def main(directory, url, name):
    settings = ReporterSettings(directory / "journal", url, directory / "token", name, "router")
    reporter = Reporter(settings, timing=ShipperTiming(ship_interval_seconds=0.001, adopt_interval_seconds=3600))
    await reporter.start()
    journal, number = reporter.journal, 0
    while True:
        journal.open_request(an_open_request(f"{name}-{number}"))
        journal.open_attempt(an_open_attempt(f"{name}-{number}"))
        if number >= 10:
            journal.close_attempt(an_attempt(f"{name}-{number - 10}"))
            journal.close_request(a_record(f"{name}-{number - 10}"))
        number += 1
        if number % 20 == 0:
            print(number, flush=True)
            await asyncio.sleep(0.001)

asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
"""


def _start_replica(directory: Path, url: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _REPLICA, str(directory), url, name]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=os.environ
    )


def _kill_after(replica: subprocess.Popen[str], lines: int) -> int:
    """Kill it once it has said so much; returns how many requests it is known to have opened."""
    assert replica.stdout is not None
    said = [int(replica.stdout.readline()) for _ in range(lines)]
    replica.send_signal(signal.SIGKILL)
    said += [int(line) for line in replica.stdout.read().split()]
    replica.wait()
    replica.stdout.close()
    return said[-1]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_open_of_killed_replicas_gets_exactly_one_record(
    tmp_path: Path, clock: TurnedClock, seed: int
) -> None:
    chance = random.Random(seed)
    app = a_keeper_app(tmp_path, clock)
    async with running(app) as url:
        keeper: Keeper = app.state.keeper
        opened = {}
        for name in ("a", "b"):
            replica = await asyncio.to_thread(_start_replica, tmp_path, url, name)
            opened[name] = await asyncio.to_thread(_kill_after, replica, chance.randint(1, 30))
        survivor = _reporter(tmp_path, url, "survivor")
        await survivor.start()

        async def is_adopted() -> bool:
            return len(_files(tmp_path)) == 1

        await eventually(is_adopted)
        stored = await keeper.read(lambda reads: reads.read_latest(100_000, 0.0))
        totals = await keeper.read(Reads.read_totals)
        await survivor.stop()

    for name, said in opened.items():
        mine = [
            request for request in stored if request.record and request.record.request_id.startswith(name)
        ]
        numbers = sorted(int(request.record.request_id.split("-")[1]) for request in mine if request.record)
        assert numbers == list(range(len(numbers)))
        assert said <= len(numbers) <= said + 20
        outcomes = Counter(request.record.outcome for request in mine if request.record)
        assert outcomes[Outcome.OK] + outcomes[Outcome.LOST] == len(numbers)
        assert 10 <= outcomes[Outcome.LOST] <= 11
        # The last request may have died between its own line and its attempt's.
        assert Counter(len(request.attempts) for request in mine).keys() <= {0, 1}
        assert sum(not request.attempts for request in mine) <= 1
    assert account_costs(totals)["requests"] == len(stored)
    assert account_costs(totals)["errors"] == sum(
        r.record.outcome is Outcome.LOST for r in stored if r.record
    )


async def test_batches_of_many_replicas_are_stored_side_by_side(tmp_path: Path, clock: TurnedClock) -> None:
    app = a_keeper_app(tmp_path, clock)
    async with app.router.lifespan_context(app):
        keeper: Keeper = app.state.keeper
        batches = [Batch(records=[a_record(f"r{n}")], replica=f"router-{n}") for n in range(200)]
        await asyncio.gather(*(keeper.submit(batch) for batch in batches))
        assert await _requests(keeper) == 200
