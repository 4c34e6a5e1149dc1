"""Reads and scores rows part by part, in several processes where they are many.

No row knows of another, so that the result is the same for any number of processes. Each gets the embedding with its
part of the rows: few large parts, because that takes it 0.2 s a time. An embedding that takes milliseconds a row is
worth processes of its own from far fewer rows on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

__all__ = ["Progress", "map_rows", "no_progress"]

Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]
"""Called with a stage, rows done and rows in all."""

_LEAST_ROWS = 4_000  # with fewer, starting processes takes longer than they save
_LEAST_SLOW_ROWS = 300
_PARTS_PER_WORKER = 3  # progress is seen, and a process that is held up holds up little
_PART_ALONE = 500


def no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def map_rows(
    work: Callable[[Sequence[str]], Result],
    prompts: Sequence[str],
    *,
    workers: int,
    stage: str,
    progress: Progress,
    slow: bool = False,
) -> Iterator[Result]:
    """Yield `work` of each part of the prompts, in order. With several `workers` it is sent to their processes.

    `slow`: a row takes milliseconds.
    """
    count = len(prompts)
    alone = workers < 2 or count < (_LEAST_SLOW_ROWS if slow else _LEAST_ROWS)
    size = _PART_ALONE if alone else -(-count // (workers * _PARTS_PER_WORKER))
    parts = [prompts[start : start + size] for start in range(0, count, size)]
    progress(stage, 0, count)
    if alone:
        yield from _counted(map(work, parts), parts, stage, progress)
        return
    # Started afresh and not forked: the progress bar and linear algebra have threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from _counted(pool.map(work, parts), parts, stage, progress)


def _counted(
    results: Iterable[Result], parts: Sequence[Sequence[str]], stage: str, progress: Progress
) -> Iterator[Result]:
    done, total = 0, sum(map(len, parts))
    for result, part in zip(results, parts, strict=True):
        done += len(part)
        progress(stage, done, total)
        yield result
