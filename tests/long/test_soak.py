"""Mixed load on one route for a long time: memory stays flat, no descriptor is lost, and latencies do not creep.

`SOAK_SECONDS=3600 make test-long` says for how long; `SOAK_TABLE` names a file for what each window came to. Latencies
are compared with the same run's own.
"""

import asyncio
import io
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest
import pytest_asyncio

from hybridroute_serve.upstream.client import IDLE_CONNECTION_SECONDS
from serve.conftest import PROVIDER_KEY
from support.live_route import LOCAL_PROMPT, REMOTE_PROMPT, LiveRoute, running_route
from support.upstream import (
    DONE,
    Exchange,
    ScriptedUpstream,
    answer_json,
    chat_answer,
    content_event,
    finish_event,
    role_event,
    running_upstream,
    usage_event,
)

SECONDS = float(os.environ.get("SOAK_SECONDS", "180"))
TABLE = os.environ.get("SOAK_TABLE")
WINDOW_SECONDS = max(5.0, SECONDS / 60)
WORDS = 64
IDLE_STREAMS = 1000
IDLE_SECONDS = min(60.0, SECONDS / 6)
PARTS = {
    "router": "ServeReplica:router",
    "llm-proxy": "ServeReplica:llm-proxy",
    "slm": "ServeReplica:slm",
    "keeper": "ServeReplica:keeper",
    "HAProxy": "haproxy",
}
MIB = 1024 * 1024
ONE = {"scaling": {"minReplicas": 1, "maxReplicas": 1, "targetOngoingRequests": 512}}
"""One replica takes all streams: what is watched is a process, and not how many there are."""
SPEC: dict[str, Any] = {
    "spec": {
        "budget": {"limitUSD": "1000000"},
        "routing": ONE,
        "llm": ONE | {"upstreams": [{"timeouts": {"connect": "5s", "firstByte": "60s", "total": "10m"}}]},
    }
}

pytestmark = pytest.mark.timeout(SECONDS + 600)


@dataclass
class Window:
    """What was seen in some seconds."""

    ended_at: float
    requests: int
    p50_ms: float
    p99_ms: float
    rss_mib: dict[str, float]
    descriptors: dict[str, int]


@dataclass
class Soak:
    """The clients and what they have seen."""

    route: LiveRoute
    provider: ScriptedUpstream
    gate: asyncio.Event
    seconds: list[float] = field(default_factory=list)
    """Of short questions to the LLM since the last window."""
    requests: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    connections: tuple[int, int] = (0, 0)
    """To the provider, before and after a thousand streams were held."""

    async def ask(self, kind: str, prompt: str, **fields: Any) -> None:
        began = time.monotonic()
        answer = await self.route.chat(prompt, **fields)
        body = await answer.read()
        whole = body.endswith(DONE) if fields.get("stream") else b'"choices"' in body
        self.note(kind, "" if answer.status == 200 and whole else f"{answer.status} {body[-200:]!r}")
        if kind == "LLM":
            self.seconds.append(time.monotonic() - began)

    def note(self, kind: str, failure: str) -> None:
        self.requests += 1
        self.asked[kind] = self.asked.get(kind, 0) + 1
        if failure:
            self.failures.append(f"{kind}: {failure}")

    async def read_slowly(self) -> None:
        answer = await self.route.chat(REMOTE_PROMPT, stream=True)
        whole = b""
        while chunk := await answer.content.read(400):
            whole += chunk
            await asyncio.sleep(0.1)
        self.note("slow reader", "" if whole.endswith(DONE) else repr(whole[-200:]))

    async def leave(self) -> None:
        answer = await self.route.chat(REMOTE_PROMPT, stream=True)
        await answer.content.readany()
        answer.close()
        self.note("leaver", "" if answer.status == 200 else str(answer.status))

    async def send_much(self) -> None:
        """A body of 15 MiB from a client that takes its time over the first half."""
        body = json.dumps(
            {
                "model": "llm",
                "messages": [{"role": "user", "content": "x " * (15 * MIB // 2)}],
                "max_tokens": 8,
            }
        ).encode()

        async def pieces() -> AsyncIterator[bytes]:
            reader = io.BytesIO(body)
            while piece := reader.read(MIB):
                yield piece
                await asyncio.sleep(0.1 if reader.tell() < len(body) / 2 else 0)

        url = f"{self.route.url}/v1/chat/completions"
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        async with self.route.session.post(url, data=pieces(), headers=headers) as answer:
            said = await answer.read()
        self.note("15 MiB", "" if answer.status == 200 else f"{answer.status} {said[-200:]!r}")

    async def hold_streams(self) -> None:
        """Hold a thousand streams that say nothing, and let them end."""
        await self._settle()
        before = self.provider.open_connections
        self.gate.clear()
        answers = await asyncio.gather(
            *(self.route.chat(f"idle {REMOTE_PROMPT}", model="llm", stream=True) for _ in range(IDLE_STREAMS))
        )
        await asyncio.gather(*(answer.content.readany() for answer in answers))
        await asyncio.sleep(IDLE_SECONDS)
        self.gate.set()
        for answer in answers:
            body = await answer.read()
            self.note("idle stream", "" if body.endswith(DONE) else f"{answer.status} {body[-200:]!r}")
        await self._settle()
        self.connections = (before, self.provider.open_connections)

    async def _settle(self) -> None:
        # Longer than connections are kept by llm-proxy and HAProxy before they are given up.
        await asyncio.sleep(min(45.0, SECONDS / 8))

    def watch(self) -> Window:
        processes = {part: self.route.processes(mark) for part, mark in PARTS.items()}
        taken, self.seconds = sorted(self.seconds), []
        requests, self.requests = self.requests, 0
        self.provider.requests.clear()
        return Window(
            ended_at=time.monotonic(),
            requests=requests,
            p50_ms=1000 * _percentile(taken, 0.5),
            p99_ms=1000 * _percentile(taken, 0.99),
            rss_mib={part: sum(_rss(one) for one in found) / MIB for part, found in processes.items()},
            descriptors={part: sum(_descriptors(one) for one in found) for part, found in processes.items()},
        )


def _rss(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _descriptors(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.num_fds())
    return 0


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def soak(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Soak]:
    gate = asyncio.Event()
    whole = answer_json(chat_answer())

    async def serve(exchange: Exchange) -> None:
        body = exchange.request.body
        if b'"stream": true' not in body and b'"stream":true' not in body:
            await whole(exchange)
            return
        await exchange.start_stream()
        await exchange.send_chunk(role_event() + content_event("word "))
        if b"idle" in body[-4000:]:
            await gate.wait()
        for _ in range(WORDS - 1):
            await exchange.send_chunk(content_event("word "))
            await asyncio.sleep(0.002)
        await exchange.send_chunk(finish_event() + usage_event(20, WORDS) + DONE)
        await exchange.end_stream()

    async with running_upstream(serve) as provider:
        environ = {"OPENAI_API_KEY": PROVIDER_KEY, "OPENAI_BASE_URL": provider.base_url}
        async with running_route(tmp_path_factory.mktemp("home"), environ, SPEC) as route:
            yield Soak(route, provider, gate)


async def repeat(what: Callable[[], Awaitable[None]], pause_seconds: float, until: float) -> None:
    while time.monotonic() < until:
        await what()
        await asyncio.sleep(pause_seconds)


async def observe(soak: Soak, until: float) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(WINDOW_SECONDS)
        soak.windows.append(soak.watch())


async def hold_twice(soak: Soak, began: float) -> None:
    for share in (0.1, 0.6):
        await asyncio.sleep(max(0.0, began + share * SECONDS - time.monotonic()))
        await soak.hold_streams()


@pytest.mark.asyncio(loop_scope="session")
async def test_a_route_under_mixed_load_stays_as_it_was(soak: Soak) -> None:
    began = time.monotonic()
    until = began + SECONDS
    prompt_1mb = "tell me all of it " * (1_000_000 // 18)
    clients = [
        *(repeat(lambda: soak.ask("LLM", REMOTE_PROMPT), 0.1, until) for _ in range(4)),
        *(repeat(lambda: soak.ask("LLM stream", REMOTE_PROMPT, stream=True), 0.1, until) for _ in range(2)),
        repeat(lambda: soak.ask("SLM", LOCAL_PROMPT, max_tokens=8), 0.5, until),
        repeat(lambda: soak.ask("SLM stream", LOCAL_PROMPT, max_tokens=8, stream=True), 0.5, until),
        repeat(lambda: soak.ask("1 MB prompt", prompt_1mb), 10.0, until),
        repeat(soak.send_much, 15.0, until),
        repeat(soak.read_slowly, 0.5, until),
        repeat(soak.leave, 1.0, until),
    ]
    await asyncio.gather(observe(soak, until), hold_twice(soak, began), *clients)
    if TABLE:
        await asyncio.to_thread(Path(TABLE).write_text, _table(soak))

    assert soak.failures == []
    # aiohttp takes the connection that has been idle longest, so a busy pool keeps all that it needs within a timeout.
    in_use = IDLE_CONNECTION_SECONDS * sum(soak.asked.values()) / SECONDS
    assert soak.connections[1] <= soak.connections[0] + in_use + 20, "connections to the provider stay open"
    early, late = _quarter(soak, 1), _quarter(soak, 3)
    for part in PARTS:
        mib = median(w.rss_mib[part] for w in early)
        grown_mib = median(w.rss_mib[part] for w in late) - mib
        assert grown_mib < max(20.0, 0.05 * mib), f"{part} has grown by {grown_mib:.0f} MiB"
        more = min(w.descriptors[part] for w in late) - min(w.descriptors[part] for w in early)
        assert more <= 5, f"{part} has {more} descriptors more"
    creep = median(w.p99_ms for w in late) / median(w.p99_ms for w in early)
    assert creep <= 1.5, f"the 99th percentile is {creep:.1f} times what it was"


def _quarter(soak: Soak, number: int) -> list[Window]:
    size = len(soak.windows) // 4
    return soak.windows[number * size : (number + 1) * size]


def _table(soak: Soak) -> str:
    asked = ", ".join(f"{kind} {count:,}" for kind, count in sorted(soak.asked.items()))
    lines = [
        "# A route under mixed load",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, `SOAK_SECONDS={SECONDS:g} pytest tests/long/test_soak.py`,"
        f" {os.cpu_count()} cores shared by clients, provider, Ray and whatever else ran. Requests: {asked};"
        f" {len(soak.failures)} failed. Connections to the provider: {soak.connections[0]} before {IDLE_STREAMS:,}"
        f" silent streams were held for {IDLE_SECONDS:g} s (twice), {soak.connections[1]} after the last of them."
        " Medians of a quarter's windows; latencies of short questions to the LLM; descriptors are the least of the"
        " quarter.",
        "",
        "| quarter | requests | p50, ms | p99, ms | "
        + " | ".join(f"{p}, MiB" for p in PARTS)
        + " | "
        + " | ".join(f"{p}, descriptors" for p in PARTS)
        + " |",
        "|---" * (4 + 2 * len(PARTS)) + "|",
    ]
    for number in range(4):
        windows = _quarter(soak, number)
        cells = [
            str(number + 1),
            f"{sum(w.requests for w in windows):,}",
            f"{median(w.p50_ms for w in windows):.1f}",
            f"{median(w.p99_ms for w in windows):.0f}",
            *(f"{median(w.rss_mib[part] for w in windows):.0f}" for part in PARTS),
            *(str(min(w.descriptors[part] for w in windows)) for part in PARTS),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
