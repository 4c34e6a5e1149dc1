"""What the shipper sends, again and no more."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hybridroute_api.records import ReplicaHeartbeat
from hybridroute_serve.journal.journal import Journal
from hybridroute_serve.journal.shipper import Backoff, Shipper, ShipperTiming
from hybridroute_serve.journal.transport import Verdict
from support.collecting_keeper import CollectingKeeper
from support.reports import a_record, an_attempt, an_open_request


class _StoppedError(Exception):
    """Raised by the sleep of a test to leave `run`."""


def _files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


class _Bench:
    def __init__(self, directory: Path, timing: ShipperTiming | None = None) -> None:
        self.keeper = CollectingKeeper()
        self.journal = Journal(directory, "router-1", "router", 1000.0)
        self.journal.start()
        self.now = 0.0
        self.slept: list[float] = []
        self.naps = 0
        self.at_sleep: dict[int, Callable[[], None]] = {}
        self.shipper = Shipper(
            self.journal,
            self.keeper.post,
            lambda ended: ReplicaHeartbeat("router-1", "router", 1000.0, 1000.0 + self.now, ended=ended),
            timing=timing or ShipperTiming(),
            monotonic=lambda: self.now,
            random=lambda: 1.0,
            sleep=self._sleep,
        )

    def _sleep(self, seconds: float) -> Awaitable[None]:
        self.slept.append(seconds)
        self.at_sleep.pop(len(self.slept), lambda: None)()
        self.now += seconds
        self.naps -= 1
        if self.naps <= 0:
            raise _StoppedError

        async def nap() -> None:
            return

        return nap()

    async def run(self, naps: int) -> None:
        self.naps = naps
        with pytest.raises(_StoppedError):
            await self.shipper.run()


async def test_everything_arrives_once_and_the_last_heartbeat_says_so(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    for number in range(5):
        bench.journal.close_request(a_record(f"r{number}"))
        bench.journal.close_attempt(an_attempt(f"r{number}"))
    await bench.run(naps=3)
    assert await bench.shipper.finish()
    bench.journal.stop()
    assert set(bench.keeper.received.values()) == {1}
    assert len(bench.keeper.received) == 10
    assert {batch.replica for batch in bench.keeper.batches} == {"router-1"}
    assert [beat.ended for beat in bench.keeper.heartbeats] == [False, True]
    assert _files(tmp_path) == []


async def test_heartbeats_come_every_two_seconds_with_nothing_to_ship(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    await bench.run(naps=100)
    assert [beat.at - 1000.0 for beat in bench.keeper.heartbeats] == pytest.approx([0.0, 2.0, 4.0], abs=0.06)
    bench.journal.stop()


async def test_a_shipment_is_followed_by_a_rest(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    bench.journal.close_request(a_record("first"))
    bench.at_sleep[2] = lambda: bench.journal.close_request(a_record("second"))
    await bench.run(naps=5)
    assert set(bench.keeper.records) == {"first"}
    await bench.run(naps=1)
    assert set(bench.keeper.records) == {"first", "second"}
    assert set(bench.slept) == {0.05}
    bench.journal.stop()


async def test_a_rest_ends_for_what_another_replica_may_ask_for(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    bench.journal.close_request(a_record("first"))
    bench.at_sleep[2] = lambda: bench.journal.close_request(a_record("second", conversation_key="key"))
    await bench.run(naps=3)
    assert set(bench.keeper.records) == {"first", "second"}
    bench.journal.stop()


async def test_a_keeper_that_is_away_is_asked_less_and_less_and_then_gets_everything(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    bench.journal.close_request(a_record("r1"))
    bench.keeper.away = 8
    await bench.run(naps=9)
    assert bench.slept[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert set(bench.keeper.records) == {"r1"}
    bench.journal.stop()


def test_backoff_is_spread_by_chance_and_forgets_after_a_success() -> None:
    backoff = Backoff(ShipperTiming(), random=iter([0.5, 0.25, 1.0]).__next__)
    assert [backoff.next_seconds(), backoff.next_seconds()] == [0.05, 0.05]
    backoff.reset()
    assert backoff.next_seconds() == 0.1


async def test_batches_stay_small_however_much_waits(tmp_path: Path) -> None:
    timing = ShipperTiming(batch_bytes=8192)
    bench = _Bench(tmp_path, timing)
    for number in range(300):
        bench.journal.close_request(a_record(f"r{number}"))
    await bench.run(naps=1)
    assert len(bench.keeper.records) > 280
    assert bench.keeper.largest_batch_bytes < 2 * timing.batch_bytes
    bench.journal.stop()


async def test_a_line_that_the_keeper_refuses_does_not_hold_up_the_others(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    bench.keeper.poison = b'"r2"'
    for number in range(5):
        bench.journal.close_request(a_record(f"r{number}"))
    assert await bench.shipper.ship_once() is Verdict.ACCEPTED
    assert set(bench.keeper.records) == {"r0", "r1", "r3", "r4"}
    assert bench.shipper.refused_lines == 1
    assert len(bench.keeper.heartbeats) == 1
    assert bench.journal.unshipped_bytes == 0
    bench.journal.stop()


async def test_what_was_shipped_long_ago_is_not_there_to_be_sent_again(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    bench.journal.open_request(an_open_request("long"))
    bench.journal.close_request(a_record("r1"))
    await bench.run(naps=60)
    (left,) = _files(tmp_path)
    assert b"r1" not in left.read_bytes()
    assert b"long" in left.read_bytes()
    await bench.run(naps=200)
    assert _files(tmp_path) == [left], "an idle journal is not rewritten"
    bench.journal.stop()


async def test_finish_leaves_the_file_when_the_keeper_is_away(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    bench.journal.open_request(an_open_request("r1"))
    bench.journal.close_request(a_record("r1"))
    bench.keeper.away = 1
    assert not await bench.shipper.finish()
    bench.journal.stop()
    assert len(_files(tmp_path)) == 1
