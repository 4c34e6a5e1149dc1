"""A store on a temporary file, with a clock that tests turn."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hybridroute_serve.keeper.reads import Reads
from hybridroute_serve.keeper.store import Store
from support.clocks import TurnedClock


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def store(tmp_path: Path, clock: TurnedClock) -> Iterator[Store]:
    store = Store(tmp_path / "keeper.sqlite3", "support", clock)
    yield store
    store.close()


@pytest.fixture
def reads(store: Store, tmp_path: Path) -> Iterator[Reads]:
    del store
    reads = Reads(tmp_path / "keeper.sqlite3")
    yield reads
    reads.close()
