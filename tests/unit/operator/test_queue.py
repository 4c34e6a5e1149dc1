"""The queue: causes coalesce, a route never has two rounds at once, failures come again with back-off."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from hybridroute_operator.errors import ApiConflictError, ApiUnavailableError, OperatorError
from hybridroute_operator.observation import RouteKey
from hybridroute_operator.queue import RouteQueue
from hybridroute_operator.reconcile import Round

ONE, TWO = RouteKey("default", "one"), RouteKey("default", "two")


class Rounds:
    """Rounds that last until the test ends them."""

    def __init__(self) -> None:
        self.began: Counter[RouteKey] = Counter()
        self.running: Counter[RouteKey] = Counter()
        self.most: Counter[RouteKey] = Counter()
        self.gate = asyncio.Event()
        self.failures: list[Exception] = []
        self.again_seconds: float | None = None
        self.outcomes: list[str] = []
        self.changed = asyncio.Event()

    async def reconcile(self, key: RouteKey) -> Round:
        self.began[key] += 1
        self.running[key] += 1
        self.most[key] = max(self.most[key], self.running[key])
        self.changed.set()
        try:
            await self.gate.wait()
            if self.failures:
                raise self.failures.pop(0)
            return Round(0, wrote_status=False, again_seconds=self.again_seconds)
        finally:
            self.running[key] -= 1

    def count(self, _: float, outcome: str) -> None:
        self.outcomes.append(outcome)
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def rounds() -> Rounds:
    return Rounds()


def queue_of(rounds: Rounds) -> RouteQueue:
    return RouteQueue(rounds.reconcile, on_round=rounds.count, jitter=lambda: 0.0)


async def test_causes_during_a_round_are_one_more_round(rounds: Rounds) -> None:
    queue = queue_of(rounds)
    queue.add(ONE)
    await rounds.until(lambda: rounds.began[ONE] == 1)
    for _ in range(5):
        queue.add(ONE)
    rounds.gate.set()
    await rounds.until(lambda: len(rounds.outcomes) == 2)
    assert rounds.began == {ONE: 2}
    assert rounds.most[ONE] == 1
    await queue.stop()


async def test_routes_do_not_wait_for_each_other(rounds: Rounds) -> None:
    queue = queue_of(rounds)
    queue.add(ONE)
    queue.add(TWO)
    await rounds.until(lambda: rounds.running == {ONE: 1, TWO: 1})
    await queue.stop()
    assert rounds.running.total() == 0


async def test_a_failure_comes_again_and_a_fault_ends_nothing(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OperatorError, "retry_seconds", 0.001)
    monkeypatch.setattr(ApiConflictError, "retry_seconds", 0.001)
    rounds.failures = [ApiConflictError("409"), ValueError("a fault of ours")]
    rounds.gate.set()
    queue = queue_of(rounds)
    queue.add(ONE)
    await rounds.until(lambda: len(rounds.outcomes) == 3)
    assert rounds.outcomes == ["ApiConflict", "Fault", "Done"]
    await queue.stop()


async def test_back_off_doubles_to_a_minute_and_ends_with_success(rounds: Rounds) -> None:
    queue = RouteQueue(rounds.reconcile, on_round=rounds.count, jitter=lambda: 1.0)
    waits = [queue._back_off(ONE, ApiUnavailableError.retry_seconds) for _ in range(7)]
    assert waits == [2, 4, 8, 16, 32, 60, 60]
    rounds.gate.set()
    queue.add(ONE)
    await rounds.until(lambda: rounds.outcomes == ["Done"])
    assert queue._back_off(ONE, ApiUnavailableError.retry_seconds) == 2
    await queue.stop()


async def test_a_route_comes_by_on_its_own(rounds: Rounds) -> None:
    rounds.again_seconds = 0.001
    rounds.gate.set()
    queue = queue_of(rounds)
    queue.add(ONE)
    await rounds.until(lambda: len(rounds.outcomes) >= 3)
    await queue.stop()
    stopped = len(rounds.outcomes)
    await asyncio.sleep(0)
    assert len(rounds.outcomes) == stopped
