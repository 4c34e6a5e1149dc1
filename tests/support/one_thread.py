"""Linear algebra on one thread: on small matrices and few cores more threads wait for each other."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

__all__ = ["one_thread"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield
