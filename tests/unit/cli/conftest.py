"""What commands change of the process that they run in ends with each test."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """`up` has SIGTERM end it as Ctrl-C does; left behind, that would be the next test's."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
