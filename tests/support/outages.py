"""Outages on a route that really runs: a provider that fails on cue and counts, requests at a rate, what came of them.

Each request carries its number to the provider in `Idempotency-Key`, so that every attempt is counted to the request
that caused it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import openai
from openai import AsyncOpenAI

from support.live_route import REMOTE_PROMPT, LiveRoute
from support.upstream import (
    Exchange,
    Script,
    answer_json,
    answer_status,
    chat_answer,
    hang_before_headers,
    reset_before_answer,
)

__all__ = [
    "FAULTS",
    "CountingProvider",
    "Ending",
    "Load",
    "Outage",
    "RetryBudget",
    "asks",
    "offer_outage",
    "proxy_facts",
    "sdk_asks",
]

ANSWER = answer_json(chat_answer())
TRICKLE_SECONDS = 10.0
TRICKLE_PIECES = 20


class _EverySecond:
    """Fails every second attempt."""

    def __init__(self) -> None:
        self._seen = 0

    async def __call__(self, exchange: Exchange) -> None:
        self._seen += 1
        await (answer_status(500) if self._seen % 2 else ANSWER)(exchange)


async def _trickle(exchange: Exchange) -> None:
    """Send a good answer, but slower than anybody waits."""
    body = b'{"choices": []}'.ljust(TRICKLE_PIECES)
    await exchange.send_head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
    for at in range(len(body)):
        await exchange.send(body[at : at + 1])
        await asyncio.sleep(TRICKLE_SECONDS / TRICKLE_PIECES)


FAULTS: dict[str, Callable[[], Script]] = {
    "500": lambda: answer_status(500),
    "reset": lambda: reset_before_answer,
    "no answer": lambda: hang_before_headers,
    "429, Retry-After 1": lambda: answer_status(429, {"Retry-After": "1"}),
    "every second 500": _EverySecond,
    "slow trickle": lambda: _trickle,
}
"""What a provider can do, by the name that tables have for it."""


class CountingProvider:
    """What a scripted upstream does, and which attempts it has seen when. Healthy until told otherwise."""

    def __init__(self) -> None:
        self.script: Script = ANSWER
        self.attempts: list[tuple[float, str]] = []
        """Monotonic second and the number of the request that caused it."""

    async def __call__(self, exchange: Exchange) -> None:
        """Answer as the primary."""
        self._count(exchange)
        await self.script(exchange)

    async def answer_as_secondary(self, exchange: Exchange) -> None:
        """Answer well, whatever the primary does."""
        self._count(exchange)
        await ANSWER(exchange)

    def _count(self, exchange: Exchange) -> None:
        self.attempts.append((time.monotonic(), exchange.request.headers.get("idempotency-key", "")))


@dataclass(frozen=True)
class RetryBudget:
    """The route's, as its spec has it."""

    ratio: float = 0.1
    floor_per_second: float = 1.0
    burst: float = 100.0

    def most_attempts(self, requests: int, seconds: float, *, served: int = 0) -> float:
        """Return how many attempts so many requests may come to, of which so many attempts got through."""
        return requests + self.burst + self.floor_per_second * seconds + self.ratio * served


@dataclass
class Outage:
    """What came of one. All but the last four is about requests that came during it."""

    seconds: float = 0.0
    requests: int = 0
    attempts: int = 0
    """That they caused, however late."""
    most_for_one: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    """0: a broken connection."""
    inviting: int = 0
    """Failures after an attempt that did not tell an SDK to leave it at that."""
    all_requests: int = 0
    """Before, during and after."""
    requests_after: int = 0
    """In the first second after it."""
    attempts_after: int = 0
    last_failure_seconds: float = 0.0
    """From its end to the arrival of the last request that failed."""

    @property
    def errors(self) -> int:
        return self.requests - self.statuses[200]

    @property
    def rate(self) -> float:
        """What was reached."""
        return self.requests / self.seconds

    @property
    def attempts_per_request(self) -> float:
        return self.attempts / self.requests


@dataclass(frozen=True)
class Ending:
    """How a request ended, as its client sees it."""

    status: int
    """0: a broken connection."""
    tells_to_stop: bool = False
    """It asks SDKs not to try again."""


Ask = Callable[[str], Awaitable[Ending]]
"""Sends a request with a key of idempotency."""


@dataclass
class _Sample:
    at: float
    ending: Ending = Ending(0)

    @property
    def failed(self) -> bool:
        return self.ending.status != 200


class Load:
    """Requests at a fixed rate, however the earlier ones fare."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.samples: dict[str, _Sample] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def offer(self, rate: float, seconds: float) -> None:
        start, first = time.monotonic(), len(self.samples)
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            task = asyncio.create_task(self._send(f"request-{first + number}"))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.sleep(max(0.0, start + seconds - time.monotonic()))

    async def end(self) -> None:
        """Wait for the last answer."""
        await asyncio.gather(*self._tasks)

    async def _send(self, key: str) -> None:
        sample = self.samples[key] = _Sample(time.monotonic())
        sample.ending = await self._ask(key)


def asks(route: LiveRoute, prompt: str = REMOTE_PROMPT) -> Ask:
    """Return a client that asks once."""

    async def ask(key: str) -> Ending:
        try:
            answer = await route.chat(prompt, headers={"idempotency-key": key}, max_tokens=4)
            await answer.read()
        except aiohttp.ClientError:
            return Ending(0)
        return Ending(answer.status, answer.headers.get("x-should-retry") == "false")

    return ask


def sdk_asks(client: AsyncOpenAI) -> Ask:
    """Return a client that is OpenAI's SDK, with the retries that it has."""

    async def ask(key: str) -> Ending:
        try:
            await client.chat.completions.create(
                model="hybridroute",
                messages=[{"role": "user", "content": REMOTE_PROMPT}],
                max_tokens=4,
                extra_headers={"idempotency-key": key},
            )
        except openai.APIStatusError as error:
            return Ending(error.status_code, error.response.headers.get("x-should-retry") == "false")
        except openai.APIConnectionError:
            return Ending(0)
        return Ending(200)

    return ask


async def offer_outage(
    ask: Ask,
    provider: CountingProvider,
    fault: Script,
    *,
    rate: float,
    seconds: float,
    healthy_seconds: float = 3.0,
    recovery_seconds: float = 8.0,
    meanwhile: Callable[[], Awaitable[Any]] | None = None,
) -> Outage:
    """Offer a load before, during and after a fault; `meanwhile` begins with the fault."""
    provider.attempts.clear()
    load = Load(ask)
    await load.offer(rate, healthy_seconds)
    down_at, provider.script = time.monotonic(), fault
    try:
        aside = asyncio.ensure_future(meanwhile()) if meanwhile is not None else None
        await load.offer(rate, seconds)
    finally:
        up_at, provider.script = time.monotonic(), ANSWER
    await load.offer(rate, recovery_seconds)
    await load.end()
    if aside is not None:
        await aside
    return _count(load.samples, provider.attempts, down_at, up_at)


def _count(
    samples: dict[str, _Sample], attempts: list[tuple[float, str]], down_at: float, up_at: float
) -> Outage:
    during = {key: sample for key, sample in samples.items() if down_at <= sample.at < up_at}
    caused = Counter(key for _, key in attempts if key in during)
    statuses = Counter(sample.ending.status for sample in during.values())
    return Outage(
        seconds=up_at - down_at,
        requests=len(during),
        attempts=caused.total(),
        most_for_one=max(caused.values(), default=0),
        statuses=statuses,
        inviting=sum(
            sample.failed and not sample.ending.tells_to_stop
            for key, sample in during.items()
            if key in caused
        ),
        all_requests=len(samples),
        requests_after=sum(up_at <= sample.at < up_at + 1 for sample in samples.values()),
        attempts_after=sum(up_at <= at < up_at + 1 for at, _ in attempts),
        last_failure_seconds=max([0.0, *(sample.at - up_at for sample in samples.values() if sample.failed)]),
    )


async def proxy_facts(route: LiveRoute) -> list[dict[str, str]]:
    """Return what each live llm-proxy replica says of its upstreams and its retry budget."""
    state = await route.keeper("/state")
    alive = [one for one in state["replicas"].get("llm-proxy", []) if one["alive"]]
    return [one["facts"] for one in alive if "retry_tokens" in one["facts"]]
