"""Load by `wrk` (Debian's package): as many requests as a number of connections can carry, one after the other on each.

wrk is written in C and costs a few per cent of what it drives, where a client in Python would cost more than a gateway.
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import Entry

__all__ = ["WrkError", "WrkResult", "run_wrk"]

SCRIPT: Final = Path(__file__).with_name("wrk.lua")
TIMEOUT: Final = "30s"
"""For one answer. wrk's own 2 s would count a busy gateway's answers as broken."""


class WrkError(Exception):
    """wrk did not run, or its requests failed."""


@dataclass(frozen=True, slots=True)
class WrkResult:
    """One run."""

    requests: int
    """Answered in whole."""
    seconds: float
    bytes_each: float
    """Of an answer with its head."""
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


async def run_wrk(entry: Entry, body: dict[str, Any], *, connections: int, seconds: float) -> WrkResult:
    """Drive a gateway. Raises `WrkError` unless every request got a 200."""
    headers = [part for pair in entry.headers.items() for part in pair]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", TIMEOUT, "-s", str(SCRIPT)]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            entry.url,
            "--",
            json.dumps({"model": entry.model, **body}),
            *headers,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except FileNotFoundError:
        raise WrkError("wrk is not installed (apt-get install wrk)") from None
    output, _ = await process.communicate()
    if process.returncode:
        raise WrkError(output.decode().strip().splitlines()[-1])
    said = json.loads(output.decode().strip().splitlines()[-1])
    if said["broken"] or said["refused"] or not said["requests"]:
        counts = f"{said['requests']} answered, {said['refused']} refused, {said['broken']} broken"
        raise WrkError(f"requests failed: {counts}")
    return WrkResult(
        requests=said["requests"],
        seconds=said["duration_us"] / 1e6,
        bytes_each=said["bytes"] / said["requests"],
        p50_ms=said["p50_us"] / 1000,
        p99_ms=said["p99_us"] / 1000,
    )
