"""The store in a file: one writer, nothing forgotten, a lost file is not an empty one."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hybridroute_serve.budgets.sqlite_store import SqliteLedgerStore
from hybridroute_serve.budgets.store import FencedError, StoreExistsError, StoreMissingError
from support.budget_world import drive


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


async def test_what_is_saved_is_there_for_the_next_writer(path: Path) -> None:
    await SqliteLedgerStore(path).create(b"one")
    store = SqliteLedgerStore(path, offload=asyncio.to_thread)
    held = await store.acquire()
    assert (held.epoch, held.document) == (1, b"one")
    held = await store.save(held, b"two")
    held = await store.save(held, b"three")
    assert await store.load(1) == held
    assert (await SqliteLedgerStore(path).acquire()).document == b"three"


def test_a_writer_that_was_replaced_can_neither_save_nor_load(path: Path) -> None:
    old, new = SqliteLedgerStore(path), SqliteLedgerStore(path)
    drive(old.create(b"one"))
    held = drive(old.acquire())
    newer = drive(new.acquire())
    with pytest.raises(FencedError):
        drive(old.save(held, b"stale"))
    with pytest.raises(FencedError):
        drive(old.load(held.epoch))
    assert (drive(new.load(newer.epoch))).document == b"one"


def test_a_version_is_replaced_once(path: Path) -> None:
    store = SqliteLedgerStore(path)
    drive(store.create(b"one"))
    held = drive(store.acquire())
    drive(store.save(held, b"two"))
    with pytest.raises(FencedError):
        drive(store.save(held, b"three"))


def test_a_document_is_not_overwritten_by_creating_it(path: Path) -> None:
    store = SqliteLedgerStore(path)
    drive(store.create(b"one"))
    with pytest.raises(StoreExistsError):
        drive(store.create(b"zero"))
    assert (drive(store.acquire())).document == b"one"


def test_a_missing_file_is_not_made_by_looking(path: Path) -> None:
    store = SqliteLedgerStore(path)
    with pytest.raises(StoreMissingError):
        drive(store.acquire())
    with pytest.raises(StoreMissingError):
        drive(store.load(1))
    assert not path.exists()


def test_a_file_deleted_under_a_writer_is_noticed(path: Path) -> None:
    store = SqliteLedgerStore(path)
    drive(store.create(b"one"))
    held = drive(store.acquire())
    path.unlink()
    with pytest.raises(StoreMissingError):
        drive(store.save(held, b"two"))
    assert not path.exists()


@pytest.mark.parametrize(
    "content", [b"", b"no database at all, just some text that goes on for a while" * 40]
)
def test_an_empty_or_damaged_file_is_a_missing_store_and_is_put_aside(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    store = SqliteLedgerStore(path)
    with pytest.raises(StoreMissingError):
        drive(store.acquire())
    drive(store.create(b"new"))
    assert (drive(store.acquire())).document == b"new"
    assert path.with_name("ledger.sqlite.unreadable-1").read_bytes() == content


_SAVES_FOR_EVER = """
import asyncio, pathlib, sys
from hybridroute_serve.budgets.sqlite_store import SqliteLedgerStore
async def main():
    store = SqliteLedgerStore(pathlib.Path(sys.argv[1]))
    held = await store.acquire()
    while True:
        held = await store.save(held, str(held.version + 1).encode())
        print(held.version, flush=True)
asyncio.run(main())
"""


def test_what_was_saved_before_a_kill_is_there_after_it(path: Path) -> None:
    drive(SqliteLedgerStore(path).create(b"0"))
    with subprocess.Popen(
        [sys.executable, "-c", _SAVES_FOR_EVER, str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        acknowledged = int((process.stdout.read().split() or [b"20"])[-1])
    held = drive(SqliteLedgerStore(path).acquire())
    assert held.epoch == 2
    assert held.version in (acknowledged, acknowledged + 1)
    assert held.document == str(held.version).encode()
