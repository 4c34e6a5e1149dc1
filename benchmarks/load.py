"""Clients for the benchmarks: one request, requests at a fixed rate, and how a result is written down.

A client asks once: no retries of its own, so that every further attempt is a gateway's.
"""

import asyncio
import json
import os
import platform
import shlex
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
from benchmarks.peers import Entry

__all__ = ["Sample", "ask", "client_session", "how_measured", "open_loop", "percentile", "write_results"]

PATIENCE_SECONDS: Final = 30.0
"""After that the client gives up, and the request counts as failed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One client request and how it ended."""

    number: int
    due_at: float
    """Monotonic second at which it was to be sent."""
    seconds: float
    """From then to the end of the answer, so that a late start counts."""
    status: int
    """HTTP status, 0 where none came."""

    @property
    def failed(self) -> bool:
        """True unless the client got its completion."""
        return self.status != 200


def client_session() -> aiohttp.ClientSession:
    """Return a session without a limit on connections."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    return aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))


async def ask(
    session: aiohttp.ClientSession, entry: Entry, number: int, due_at: float, **fields: Any
) -> Sample:
    """Send one request, marked with its number, and read the whole answer."""
    message = {"role": "user", "content": f"Say something. request-{number}"}
    body = {"model": entry.model, "messages": [message], **fields}
    status = 0
    try:
        async with session.post(entry.url, json=body, headers=entry.headers) as answer:
            await answer.read()
            status = answer.status
    except (aiohttp.ClientError, TimeoutError):
        pass  # no answer: status 0 says so
    return Sample(number, due_at, time.monotonic() - due_at, status)


async def open_loop(
    session: aiohttp.ClientSession, entry: Entry, *, rate: float, seconds: float, start: float
) -> list[Sample]:
    """Send a request every 1/rate s, however the earlier ones fare, and return all when the last has ended."""
    tasks = []
    for number in range(round(rate * seconds)):
        due_at = start + number / rate
        await asyncio.sleep(max(0.0, due_at - time.monotonic()))
        tasks.append(asyncio.create_task(ask(session, entry, number, due_at)))
    return list(await asyncio.gather(*tasks))


def percentile(values: list[float], share: float) -> float:
    """Return the nearest-rank percentile, NaN of nothing."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)] if ordered else float("nan")


def how_measured(module: str, work: Path) -> str:
    """Return when, how, by which Python and on what a result was measured."""
    words = ["WORK" if Path(word).resolve() == work else word for word in sys.argv[1:]]
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, `python -m {module} {shlex.join(words)}`,"
        f" Python {platform.python_version()}, {os.cpu_count()} cores"
        f" shared by clients, provider, gateway and whatever else ran, load average at the end {load}."
    )


def write_results(output: Path, name: str, lines: list[str], document: dict[str, Any]) -> None:
    """Write the Markdown and JSON of a result and print the former."""
    output.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    (output / f"{name}.md").write_text(text)
    (output / f"{name}.json").write_text(in_lines(document))
    print(text)


def in_lines(document: dict[str, Any]) -> str:
    """Return a document as JSON with a line per item of its lists, so that a diff says which run has changed."""
    parts = [
        f"{json.dumps(key)}: "
        + (
            "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
            if isinstance(value, list)
            else json.dumps(value)
        )
        for key, value in document.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"
