"""What the journal promises of its files."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_serve.journal.journal import Journal
from hybridroute_serve.journal.lines import Kind, parse_line
from hybridroute_serve.journal.segment import Segment
from support.reports import a_record, an_attempt, an_open_attempt, an_open_request


def _open(directory: Path, *, segment_bytes: int = 8 * 1024 * 1024, started_at: float = 1000.0) -> Journal:
    journal = Journal(directory, "router#1", "router", started_at, segment_bytes=segment_bytes)
    journal.start()
    return journal


def _ship_all(journal: Journal) -> tuple[list[bytes], list[bytes]]:
    records: list[bytes] = []
    attempts: list[bytes] = []
    while (pending := journal.peek_pending(4096)) is not None:
        records += pending.closes.records
        attempts += pending.closes.attempts
        journal.mark_shipped(pending)
    return records, attempts


def test_closes_are_shipped_in_order_and_opens_are_not(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    for number in range(20):
        journal.open_request(an_open_request(f"r{number}"))
        journal.open_attempt(an_open_attempt(f"r{number}"))
        journal.close_attempt(an_attempt(f"r{number}"))
        journal.close_request(a_record(f"r{number}"))
    records, attempts = _ship_all(journal)
    assert [b'"request_id":"r%d"' % n in record for n, record in enumerate(records)] == [True] * 20
    assert len(attempts) == 20
    assert journal.open_count == 0
    assert journal.unshipped_bytes == 0
    journal.stop()


def test_a_shipped_segment_goes_and_what_is_open_moves_to_the_next(tmp_path: Path) -> None:
    journal = _open(tmp_path, segment_bytes=4000)
    journal.open_request(an_open_request("long"))
    for number in range(60):
        journal.close_request(a_record(f"r{number}"))
    assert len(list(tmp_path.iterdir())) > 5
    records, _ = _ship_all(journal)
    assert len(records) == 60
    (left,) = tmp_path.iterdir()
    assert b'"open_request"' in left.read_bytes()
    assert b'"request_id":"long"' in left.read_bytes()
    journal.stop()
    assert left.exists()


def test_a_clean_stop_leaves_no_file(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    journal.open_request(an_open_request("r1"))
    journal.close_request(a_record("r1"))
    _ship_all(journal)
    journal.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_stop_with_unshipped_lines_leaves_them(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    journal.close_request(a_record("r1"))
    journal.stop()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_live_owners_file_cannot_be_taken_and_a_dead_ones_can(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    journal.close_request(a_record("r1"))
    (path,) = tmp_path.iterdir()
    assert Segment.take(path) is None
    journal.stop()
    taken = Segment.take(path)
    assert taken is not None
    taken.release()


def test_two_replicas_of_one_name_do_not_share_a_file(tmp_path: Path) -> None:
    first = _open(tmp_path)
    second = _open(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    first.stop()
    second.stop()


def test_a_replicas_name_cannot_leave_the_directory(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "../../evil", "router", 1000.0)
    journal.start()
    assert [path.parent for path in tmp_path.rglob("*.jsonl")] == [tmp_path / "journal"]
    journal.stop()


def test_a_line_longer_than_a_batch_is_read_whole(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    journal.close_request(a_record("big", prompt_text="x" * 100_000))
    journal.close_request(a_record("small"))
    records, _ = _ship_all(journal)
    assert [len(record) > 100_000 for record in records] == [True, False]
    journal.stop()


STEPS = ("open", "close", "close long", "ship", "keeper away", "rotate", "disk full", "disk free")


@given(st.lists(st.sampled_from(STEPS), max_size=60), st.sampled_from([600, 4096, 1 << 20]))
def test_every_close_is_shipped_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], limit_bytes: int
) -> None:
    journal = _open(tmp_path_factory.mktemp("journal"), segment_bytes=3000)
    journal.open_request(an_open_request("open for good"))
    shipped: list[bytes] = []

    def ship() -> bool:
        pending = journal.peek_pending(limit_bytes)
        if pending is not None:
            shipped.extend(pending.closes.records)
            journal.mark_shipped(pending)
        return pending is not None

    real_fallocate, closed = os.posix_fallocate, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridroute_serve.journal.segment.GROWTH_BYTES", 1000)
        for number, step in enumerate(steps):
            match step:
                case "open":
                    journal.open_request(an_open_request(f"open-{number}"))
                case "close" | "close long":
                    text = "x" * 2000 if step == "close long" else None
                    journal.close_request(a_record(f"r{closed}", prompt_text=text))
                    closed += 1
                case "ship":
                    ship()
                case "keeper away":
                    journal.peek_pending(limit_bytes)
                case "rotate":
                    journal.rotate_used()
                case "disk full":
                    patch.setattr(os, "posix_fallocate", _refuse)
                case "disk free":
                    patch.setattr(os, "posix_fallocate", real_fallocate)
    journal.retry_unwritten()
    while ship():
        pass
    ids = [record.split(b'"')[3].decode() for record in shipped]
    assert ids == [f"r{number}" for number in range(closed)]
    assert journal.unshipped_bytes == 0
    journal.stop()


def _refuse(_descriptor: int, _offset: int, _size: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_loses_nothing_and_leaves_no_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybridroute_serve.journal.segment.GROWTH_BYTES", 100)
    journal = _open(tmp_path)
    journal.close_request(a_record("before"))
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", _refuse)
        journal.close_request(a_record("during-1"))
        journal.close_request(a_record("during-2"))
    assert journal.write_errors >= 2
    journal.close_request(a_record("after"))
    records, _ = _ship_all(journal)
    ids = [record.split(b'"')[3].decode() for record in records]
    assert ids == ["before", "during-1", "during-2", "after"]
    journal.stop()
    assert list(tmp_path.iterdir()) == []


def test_lines_are_in_the_file_before_the_call_returns_and_nothing_else_is_after_a_stop(
    tmp_path: Path,
) -> None:
    journal = _open(tmp_path)
    journal.close_request(a_record("r1"))
    (path,) = tmp_path.iterdir()
    alive = path.read_bytes()
    assert alive.rstrip(b"\0").endswith(b"}\n")
    assert b'"request_id":"r1"' in alive
    journal.stop()
    assert path.read_bytes() == alive.rstrip(b"\0")


@pytest.mark.parametrize("lost", [slice(0, 8), slice(20, 60), slice(-1, None), slice(0, None)])
def test_a_line_that_was_cut_by_its_owners_death_is_not_read(tmp_path: Path, lost: slice) -> None:
    journal = _open(tmp_path)
    journal.close_request(a_record("whole"))
    journal.close_request(a_record("cut"))
    (path,) = tmp_path.iterdir()
    lines = path.read_bytes().rstrip(b"\0").splitlines(keepends=True)
    cut = bytearray(lines.pop())
    cut[lost] = bytes(len(cut[lost]))
    left = tmp_path / "left.jsonl"
    left.write_bytes(b"".join(lines) + cut + bytes(5000))
    segment = Segment.take(left)
    assert segment is not None
    read = [parse_line(line) for line in segment.read_lines(0, 256 * 1024).split(b"\n")]
    assert [line.kind for line in read if line is not None] == [Kind.OWNER, Kind.RECORD]
    assert segment.read_lines(len(b"".join(lines) + cut), 256 * 1024) == b""
    segment.release()
    journal.stop()
