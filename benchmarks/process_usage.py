"""CPU time and memory of a gateway, all of its processes together."""

from contextlib import suppress
from dataclasses import dataclass

import psutil

__all__ = ["CpuMeter", "resident_mib"]


@dataclass(slots=True)
class CpuMeter:
    """CPU seconds that processes take from its making on. What starts in between counts from its start."""

    before: dict[psutil.Process, float]

    @classmethod
    def of(cls, processes: list[psutil.Process]) -> "CpuMeter":
        """Begin to measure."""
        return cls({process: _cpu_seconds(process) for process in processes})

    def seconds(self, processes: list[psutil.Process]) -> float:
        """Return what was taken since."""
        return sum(_cpu_seconds(process) - self.before.get(process, 0.0) for process in processes)


def resident_mib(processes: list[psutil.Process]) -> float:
    """Return the sum of resident sets; what processes share counts in each."""
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / 2**20


def _cpu_seconds(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
