"""A ConfigMap in memory with the API server's compare-and-swap, and the ledger's world on top of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hybridroute_serve.budgets.journalled import decode_ledger
from hybridroute_serve.budgets.store import Held, StoreMissingError, StoreUnavailableError
from hybridroute_serve.keeper.api_server import ApiConflictError, ApiTroubleError
from hybridroute_serve.keeper.config_map_store import ConfigMapLedgerStore
from support.budget_world import StoreTroubleError, check_journal_point
from support.clocks import TurnedClock

__all__ = ["MemoryConfigMap", "WorldConfigMap", "ledger_store"]


class MemoryConfigMap:
    """`ConfigMapPort`. `entries` is None while there is no such object."""

    def __init__(self, entries: dict[str, str] | None = None) -> None:
        self.entries = entries
        self.version = 1
        self.fails: str | None = None
        """The next patch fails: "before" it wrote, or "after"."""
        self.before_patch: Callable[[], None] = lambda: None
        self.patches = 0

    async def read(self) -> Any:
        if self.entries is None:
            return None
        return {"metadata": {"resourceVersion": str(self.version)}, "data": dict(self.entries)}

    async def patch(self, resource_version: str, entries: Mapping[str, str | None]) -> Any:
        self.before_patch()
        if self.entries is None:
            return None
        if resource_version != str(self.version):
            raise ApiConflictError
        fails, self.fails = self.fails, None
        if fails == "before":
            raise ApiTroubleError("answer 500")
        self.patches += 1
        self.write(entries)
        if fails == "after":
            raise ApiTroubleError("no answer: TimeoutError")
        return await self.read()

    def write(self, entries: Mapping[str, str | None]) -> None:
        """Change entries, whoever does it."""
        merged = {**(self.entries or {}), **entries}
        self.entries = {key: value for key, value in merged.items() if value is not None}
        self.version += 1


def ledger_store(config_map: MemoryConfigMap, clock: TurnedClock | None = None) -> ConfigMapLedgerStore:
    """Return one keeper's store; its sleep turns the clock."""
    time = clock or TurnedClock()

    async def sleep(seconds: float) -> None:
        time.now += seconds

    return ConfigMapLedgerStore(config_map, monotonic=time, sleep=sleep)


class WorldConfigMap:
    """What `budget_world.World` asks of a store, over a ConfigMap that the operator makes again when it is lost."""

    def __init__(self) -> None:
        self._map = MemoryConfigMap({"past": "none"})
        self._store = ledger_store(self._map)

    @property
    def fails(self) -> str | None:
        return self._map.fails

    @fails.setter
    def fails(self, when: str | None) -> None:
        self._map.fails = when

    @property
    def held(self) -> Held | None:
        try:
            return self.read()
        except StoreMissingError:
            return None

    @held.setter
    def held(self, nothing: None) -> None:
        self._map.entries = {"past": "unknown"}
        self._map.version += 1

    def read(self) -> Held:
        entries = self._map.entries or {}
        if "epoch" not in entries:
            raise StoreMissingError
        return Held(int(entries["epoch"]), int(entries["version"]), entries["ledger.json"].encode())

    async def create(self, document: bytes) -> None:
        with self._failing_saves_alone():
            await self._store.create(document)

    async def acquire(self) -> Held:
        with self._failing_saves_alone():
            return await self._store.acquire()

    async def load(self, epoch: int) -> Held:
        return await self._store.load(epoch)

    async def save(self, held: Held, document: bytes) -> Held:
        stored = self.held
        if stored is not None and (stored.epoch, stored.version) == (held.epoch, held.version):
            check_journal_point(decode_ledger(stored.document), decode_ledger(document))
        try:
            return await self._store.save(held, document)
        except StoreUnavailableError as error:
            raise StoreTroubleError from error

    @contextmanager
    def _failing_saves_alone(self) -> Iterator[None]:
        kept, self._map.fails = self._map.fails, None
        yield
        self._map.fails = kept
