"""Where a keeper's dollar ledger lives and how it is treated there: a file of its own, or a ConfigMap of the cluster.

Not here: what the ledger is (`budgets`), and the hold that a keeper has on it (`stored_ledger`).
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from hybridroute_serve.budgets.journalled import create_ledger, decode_ledger
from hybridroute_serve.budgets.ledger import LedgerState, fresh_ledger
from hybridroute_serve.budgets.sqlite_store import SqliteLedgerStore
from hybridroute_serve.budgets.store import LedgerStore, StoreExistsError, StoreUnusedError
from hybridroute_serve.keeper.config_map_store import ConfigMapLedgerStore, ConfigMapPort

__all__ = ["LEDGER_NAME", "ConfigMapLedgerHome", "FileLedgerHome", "LedgerHome"]

LEDGER_NAME: Final = "ledger.sqlite3"


class LedgerHome(Protocol):
    """One of the two."""

    @property
    def store(self) -> LedgerStore:
        """The port behind which it is stored."""

    @property
    def is_shared(self) -> bool:
        """True where another gateway's keeper may hold it, as in an upgrade.

        Then the first claim opens it, and not the keeper's start: the gateway that has the traffic keeps it.
        """

    @property
    def confirm_seconds(self) -> float:
        """How often to make sure that it is still there and ours."""

    async def turn(self) -> None:
        """Return when a group of operations may be stored; until then it may still grow."""

    async def make_first(self, now_unix: float) -> None:
        """Make it for a route that has never had one, unless the cluster does."""

    async def peek(self) -> LedgerState | None:
        """Return what is stored without taking it over, where that is possible. Errors as of `store`."""

    async def close(self) -> None:
        """Let go of it."""


class FileLedgerHome:
    """A file beside the records, with a thread of its own."""

    is_shared = False
    confirm_seconds = 0.0

    def __init__(self, directory: Path) -> None:
        self._path = directory / LEDGER_NAME
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keeper-ledger")
        self._file = SqliteLedgerStore(self._path, self._offload)

    @property
    def store(self) -> LedgerStore:
        """The file."""
        return self._file

    async def turn(self) -> None:
        """Return at once."""

    async def make_first(self, now_unix: float) -> None:
        """Make the file of a route that has never had one. Errors: sqlite3.Error, OSError."""
        if not await asyncio.to_thread(self._path.exists):
            with suppress(StoreExistsError):
                await create_ledger(self._file, {}, now_unix, life=secrets.token_hex(8))

    async def peek(self) -> LedgerState | None:
        """Return None: it is open from the start."""
        return None

    async def close(self) -> None:
        """Let go of file and thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown()

    async def _offload(self, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


class ConfigMapLedgerHome:
    """A ConfigMap that outlives the keeper's pod."""

    is_shared = True
    confirm_seconds = 5.0

    def __init__(
        self,
        config_map: ConfigMapPort,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._entries = ConfigMapLedgerStore(config_map, monotonic=monotonic, sleep=sleep)

    @property
    def store(self) -> LedgerStore:
        """The ConfigMap."""
        return self._entries

    async def turn(self) -> None:
        """Return when the next write is due."""
        await self._entries.turn()

    async def make_first(self, now_unix: float) -> None:
        """Do nothing: the operator makes the ConfigMap and says whether there was one before."""

    async def peek(self) -> LedgerState | None:
        """Return what is stored; of a route that never spent anything, an empty ledger. Errors as of the store."""
        try:
            return decode_ledger(await self._entries.peek())
        except StoreUnusedError:
            return fresh_ledger("", {}, 0.0)

    async def close(self) -> None:
        """Do nothing: the connection is the keeper's."""
