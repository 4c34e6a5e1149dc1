"""The ledger's store in one SQLite file. The only module of this package that does I/O.

One row, one file of its own: a save is a compare-and-swap of epoch and version in an immediate transaction,
synchronous to the disk, since money that is forgotten is spent twice. Write-ahead logging on one open connection
makes that one flush a save instead of several. A file that is gone, replaced, empty or damaged
is a missing store, also under a running keeper; `create` puts what is left of it aside and never deletes it.
"""

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from hybridroute_serve.budgets.store import FencedError, Held, StoreExistsError, StoreMissingError

__all__ = ["Offload", "SqliteLedgerStore", "run_inline"]

_T = TypeVar("_T")
Offload = Callable[[Callable[[], Held]], Awaitable[Held]]
"""Runs a blocking call of a few milliseconds; `asyncio.to_thread` keeps an event loop free."""

_BUSY_SECONDS = 5.0


async def run_inline(call: Callable[[], Held]) -> Held:
    """Run the call where it is."""
    return call()


class SqliteLedgerStore:
    """`store.LedgerStore` in a file."""

    def __init__(self, path: Path, offload: Offload = run_inline) -> None:
        self._path = path
        self._offload = offload
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._file_id = None

    async def create(self, document: bytes) -> None:
        """Write the first document. Raises `StoreExistsError`."""
        await self._offload(lambda: self._create(document))

    async def acquire(self) -> Held:
        """Become the writer. Raises `StoreMissingError`."""
        return await self._offload(self._acquire)

    async def load(self, epoch: int) -> Held:
        """Read the document again. Raises `FencedError` and `StoreMissingError`."""
        return await self._offload(lambda: self._load(epoch))

    async def save(self, held: Held, document: bytes) -> Held:
        """Replace the document that is held. Raises `FencedError` and `StoreMissingError`."""
        return await self._offload(lambda: self._save(held, document))

    def _create(self, document: bytes) -> Held:
        try:
            with self._transaction() as connection:
                _read(connection)
        except StoreMissingError:
            self.close()
        else:
            raise StoreExistsError(str(self._path))
        # A log left beside a new file would be played into it.
        for name in (self._path.name, f"{self._path.name}-wal", f"{self._path.name}-shm"):
            left = self._path.with_name(name)
            if left.exists():
                left.rename(_free_name(left))
        with self._transaction(create=True) as connection:
            connection.execute(
                "CREATE TABLE ledger (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL,"
                " version INTEGER NOT NULL, document BLOB NOT NULL) STRICT"
            )
            connection.execute("INSERT INTO ledger VALUES (1, 0, 0, ?)", (document,))
        return Held(0, 0, document)

    def _acquire(self) -> Held:
        with self._transaction() as connection:
            found = _read(connection)
            held = Held(found.epoch + 1, found.version, found.document)
            connection.execute("UPDATE ledger SET epoch = ?", (held.epoch,))
        return held

    def _load(self, epoch: int) -> Held:
        with self._transaction() as connection:
            found = _read(connection)
        if found.epoch != epoch:
            raise FencedError(f"epoch {found.epoch} has replaced {epoch}")
        return found

    def _save(self, held: Held, document: bytes) -> Held:
        new = Held(held.epoch, held.version + 1, document)
        with self._transaction() as connection:
            found = _read(connection)
            if (found.epoch, found.version) != (held.epoch, held.version):
                raise FencedError(
                    f"epoch {found.epoch} version {found.version} is stored,"
                    f" not epoch {held.epoch} version {held.version}"
                )
            connection.execute("UPDATE ledger SET version = ?, document = ?", (new.version, document))
        return new

    @contextlib.contextmanager
    def _transaction(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        with _unreadable_is_missing(self._path):
            connection = self._open(create=create)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # The connection's state is unknown after a failure; the next call opens the file anew.
                self.close()
                raise

    def _open(self, *, create: bool) -> sqlite3.Connection:
        """Return the connection to the file that is there now. Raises `StoreMissingError`."""
        file_id = _file_id(self._path)
        if self._connection is not None and file_id == self._file_id:
            return self._connection
        self.close()
        if file_id is None and not create:
            raise StoreMissingError(str(self._path))
        uri = f"{self._path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
        # Calls come one at a time, but not always on the same thread.
        connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection = connection
        if create:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        self._file_id = _file_id(self._path)
        return connection


@contextlib.contextmanager
def _unreadable_is_missing(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise StoreMissingError(f"{path} holds no ledger") from error
        raise
    except sqlite3.DatabaseError as error:
        raise StoreMissingError(f"{path} is damaged: {error}") from error


def _read(connection: sqlite3.Connection) -> Held:
    row = connection.execute("SELECT epoch, version, document FROM ledger").fetchone()
    if row is None:
        raise StoreMissingError("the ledger is empty")
    return Held(*row)


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _free_name(path: Path) -> Path:
    number = 1
    while (name := path.with_name(f"{path.name}.unreadable-{number}")).exists():
        number += 1
    return name
