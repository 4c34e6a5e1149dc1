"""A dead replica's files are finished by a live one, wherever the death fell."""

import asyncio
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridroute_api.vocabulary import Outcome, UsageSource
from hybridroute_serve.journal.adoption import Adopter
from hybridroute_serve.journal.journal import Journal
from hybridroute_serve.journal.shipper import ShipperTiming
from hybridroute_serve.journal.transport import Verdict
from support.collecting_keeper import CollectingKeeper
from support.reports import a_record, an_open_attempt, an_open_request


def _adopter(directory: Path, keeper: CollectingKeeper, *, batch_bytes: int = 4096) -> Adopter:
    return Adopter(directory, keeper.post, timing=ShipperTiming(batch_bytes=batch_bytes), sleep=asyncio.sleep)


def _files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def _die(journal: Journal) -> None:
    """Lose the locks and leave the files, as the kernel does for a killed process."""
    journal.open_request(an_open_request("in flight at the end"))
    journal.stop()


async def test_opens_without_a_close_become_lost_with_the_numbers_of_the_decision(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "llm-1", "llm-proxy", 1000.0)
    journal.start()
    journal.open_request(an_open_request("r1"))
    journal.close_request(a_record("r1"))
    journal.open_attempt(an_open_attempt("r2", reserved_nano_usd=900, lease_ids=("L.1", "L.2")))
    _die(journal)
    keeper = CollectingKeeper()
    assert await _adopter(tmp_path, keeper).adopt_all() is Verdict.ACCEPTED
    assert keeper.records["r1"].outcome is Outcome.OK
    lost = keeper.records["in flight at the end"]
    assert (lost.outcome, lost.status, lost.replica, lost.confidence) == (Outcome.LOST, 500, "llm-1", 0.91)
    assert lost.total_seconds > 0
    attempt = keeper.attempts["r2/llm/1"]
    assert (attempt.outcome, attempt.usage.prompt_tokens) == (Outcome.LOST, 40)
    assert attempt.usage.source is UsageSource.ESTIMATED
    assert (attempt.settled_nano_usd, attempt.lease_ids) == (900, ("L.1", "L.2")), "all of it may be billed"
    (end,) = keeper.heartbeats
    assert (end.replica, end.app, end.started_at, end.ended) == ("llm-1", "llm-proxy", 1000.0, True)
    assert _files(tmp_path) == []


async def test_a_live_replica_is_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "router-1", "router", 1000.0, segment_bytes=2000)
    journal.start()
    for number in range(20):
        journal.open_request(an_open_request(f"r{number}"))
    before = _files(tmp_path)
    keeper = CollectingKeeper()
    await _adopter(tmp_path, keeper).adopt_all()
    assert keeper.batches == []
    assert _files(tmp_path) == before
    journal.stop()


async def test_an_adopter_that_cannot_reach_the_keeper_leaves_everything_for_the_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "router-1", "router", 1000.0, segment_bytes=2000)
    journal.start()
    for number in range(20):
        journal.open_request(an_open_request(f"r{number}"))
        journal.close_request(a_record(f"r{number}"))
    _die(journal)
    files = len(_files(tmp_path))
    # The keeper goes away at every place in turn: before the first batch, before the second, …
    for taken in range(1000):
        keeper = _LeavingKeeper(taken)
        if await _adopter(tmp_path, keeper).adopt_all() is Verdict.ACCEPTED:
            break
        assert len(_files(tmp_path)) == files
    assert taken > 3
    assert set(keeper.records) == {f"r{n}" for n in range(20)} | {"in flight at the end"}
    assert [r.outcome for r in keeper.records.values()].count(Outcome.LOST) == 1
    assert _files(tmp_path) == []


class _LeavingKeeper(CollectingKeeper):
    """Takes some batches, then is away for good."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._batches_left = batches

    async def post(self, body: bytes) -> Verdict:
        if self._batches_left == 0:
            return Verdict.AWAY
        self._batches_left -= 1
        return await super().post(body)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=0, max_value=10_000), batch_bytes=st.sampled_from([64, 700, 65536]))
def test_a_file_cut_at_any_byte_gives_each_open_exactly_one_record(cut: int, batch_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        journal = Journal(directory, "router-1", "router", 1000.0)
        journal.start()
        for number in range(8):
            journal.open_request(an_open_request(f"r{number}"))
            if number >= 2:
                journal.close_request(a_record(f"r{number - 2}"))
        journal.stop()
        (path,) = directory.iterdir()
        whole = path.read_bytes()
        cut %= len(whole) + 1
        path.write_bytes(whole[:cut])
        lines = whole[:cut].split(b"\n")[:-1]
        opened = [line for line in lines if b'"open_request"' in line]
        closed = [line for line in lines if line.startswith(b'{"kind":"record"')]
        keeper = CollectingKeeper()
        asyncio.run(_adopter(directory, keeper, batch_bytes=batch_bytes).adopt_all())
        assert len(keeper.records) == len(opened)
        lost = [r for r in keeper.records.values() if r.outcome is Outcome.LOST]
        assert len(lost) == len(opened) - len(closed)
        assert list(directory.iterdir()) == []


async def test_garbage_and_foreign_lines_do_not_keep_the_rest_from_being_finished(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "router-1", "router", 1000.0)
    journal.start()
    journal.open_request(an_open_request("r1"))
    _die(journal)
    (path,) = _files(tmp_path)
    with path.open("ab") as file:
        file.write(b"\x00\xff not json\n")
        file.write(b'{"kind":"open_request","body":{"request_id":"of a later version"}}\n')
        file.write(b'{"kind":"of a later version","body":{}}\n')
    keeper = CollectingKeeper()
    assert await _adopter(tmp_path, keeper).adopt_all() is Verdict.ACCEPTED
    assert set(keeper.records) == {"r1", "in flight at the end"}
    assert _files(tmp_path) == []


# A real process writes opens and closes of ten overlapping requests, telling us of each before it does it
# (so that what we know of is a superset of what it wrote), until it is killed.
_WRITER = """
import sys
from pathlib import Path
from hybridroute_serve.journal.journal import Journal
from support.reports import a_record, an_open_request
journal = Journal(Path(sys.argv[1]), "victim", "router", 1000.0, segment_bytes=20_000)
journal.start()
number = 0
while True:
    journal.open_request(an_open_request(f"r{number}"))
    if number >= 10:
        journal.close_request(a_record(f"r{number - 10}"))
    number += 1
    if number % 10 == 0:
        print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 2, 7, 23])
def test_a_killed_process_leaves_each_open_with_exactly_one_record(tmp_path: Path, lines: int) -> None:
    tests = Path(__file__).parents[2]
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=tests
    )
    assert writer.stdout is not None
    for _ in range(lines):
        said = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.wait()
    writer.stdout.close()
    said = int(rest[-1]) if rest else said

    keeper = CollectingKeeper()
    asyncio.run(_adopter(tmp_path, keeper, batch_bytes=10_000).adopt_all())

    numbers = sorted(int(request_id[1:]) for request_id in keeper.records)
    assert numbers == list(range(len(numbers)))
    assert said <= len(numbers) <= said + 10
    assert set(keeper.received.values()) == {1}
    lost = [r for r in keeper.records.values() if r.outcome is Outcome.LOST]
    assert len(lost) in {10, 11}
    assert _files(tmp_path) == []
