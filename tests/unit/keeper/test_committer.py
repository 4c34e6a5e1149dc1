"""Batches are committed in groups, and each caller hears of its own."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from hybridroute_api.records import Batch
from hybridroute_serve.keeper.committer import GROUP_REPORTS, BadBatchError, Committer
from support.reports import a_record


class _Applied:
    """Records groups; the first waits until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.go_on = threading.Event()
        self.entered = threading.Event()
        self.failure: Exception | None = None

    def __call__(self, batches: Sequence[Batch]) -> None:
        names = [batch.replica for batch in batches]
        self.entered.set()
        self.go_on.wait()
        if "bad" in names:
            raise OverflowError("too large")
        if self.failure is not None:
            raise self.failure
        self.groups.append(names)


@pytest.fixture
async def executor() -> AsyncIterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def _submit_behind_a_slow_commit(
    committer: Committer, applied: _Applied, names: list[str]
) -> list[object]:
    first = asyncio.create_task(committer.submit(Batch(replica="first")))
    await asyncio.to_thread(applied.entered.wait)
    rest = [asyncio.create_task(committer.submit(Batch(replica=name))) for name in names]
    await asyncio.sleep(0)
    applied.go_on.set()
    return list(await asyncio.gather(first, *rest, return_exceptions=True))


async def test_what_comes_during_a_commit_goes_into_the_next_together(executor: ThreadPoolExecutor) -> None:
    applied = _Applied()
    committer = Committer(applied, executor)
    assert await _submit_behind_a_slow_commit(committer, applied, ["a", "b", "c"]) == [None] * 4
    assert applied.groups == [["first"], ["a", "b", "c"]]


async def test_a_bad_batch_takes_no_other_with_it(executor: ThreadPoolExecutor) -> None:
    applied = _Applied()
    committer = Committer(applied, executor)
    results = await _submit_behind_a_slow_commit(committer, applied, ["a", "bad", "c"])
    assert [type(result) for result in results] == [type(None), type(None), BadBatchError, type(None)]
    assert applied.groups == [["first"], ["a"], ["c"]]


async def test_a_failing_store_is_told_to_everyone_who_waits_and_the_next_batch_is_tried(
    executor: ThreadPoolExecutor,
) -> None:
    applied = _Applied()
    applied.failure = sqlite3.OperationalError("disk I/O error")
    committer = Committer(applied, executor)
    results = await _submit_behind_a_slow_commit(committer, applied, ["a"])
    assert results == [applied.failure, applied.failure]
    applied.failure = None
    await committer.submit(Batch(replica="b"))
    assert applied.groups == [["b"]]


async def test_a_caller_that_went_away_does_not_stop_the_commit(executor: ThreadPoolExecutor) -> None:
    applied = _Applied()
    committer = Committer(applied, executor)
    caller = asyncio.create_task(committer.submit(Batch(replica="gone")))
    await asyncio.to_thread(applied.entered.wait)
    caller.cancel()
    applied.go_on.set()
    await committer.submit(Batch(replica="b"))
    await committer.stop()
    assert applied.groups == [["gone"], ["b"]]


async def test_a_group_is_bounded(executor: ThreadPoolExecutor) -> None:
    applied = _Applied()
    committer = Committer(applied, executor)
    large = [Batch(replica=name, records=[a_record("r")] * (GROUP_REPORTS - 1)) for name in "abc"]
    first = asyncio.create_task(committer.submit(Batch(replica="first")))
    await asyncio.to_thread(applied.entered.wait)
    rest = [asyncio.create_task(committer.submit(batch)) for batch in large]
    await asyncio.sleep(0)
    applied.go_on.set()
    await asyncio.gather(first, *rest)
    assert applied.groups == [["first"], ["a", "b"], ["c"]]
