"""How many CPU threads an engine may use.

llama.cpp's threads meet at a barrier some hundred times a token. With as many threads as cores, a single other
busy process makes each barrier wait for a time slice: on two cores 125 tokens/s fell to 3. One thread less than
cores kept 80, whatever else ran, and leaves the router a core. A prompt is read in batches, with much more work
between barriers: all cores read it up to twice as fast.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Threads", "choose_threads", "usable_cpus"]

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads of one engine."""

    generation: int
    prompts: int


def choose_threads(cpus: float) -> Threads:
    """Return the threads for so many CPUs."""
    cores = max(1, math.floor(cpus))
    return Threads(generation=max(1, cores - 1), prompts=cores)


def usable_cpus(quota_file: Path = _CGROUP_QUOTA) -> float:
    """Return the CPUs that this process may use: its affinity, cut by the container's quota (cgroup v2)."""
    cpus = (
        float(len(os.sched_getaffinity(0)))
        if hasattr(os, "sched_getaffinity")
        else float(os.cpu_count() or 1)
    )
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else min(cpus, int(quota) / int(period))
