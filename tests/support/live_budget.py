"""Dollars on a route that really runs: a limit that leaves just so much, and a provider that bills for itself."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from hybridroute_api.quantities import format_usd, parse_usd
from support.live_route import REMOTE_PROMPT, LiveRoute
from support.routes import merged
from support.upstream import (
    DONE,
    Exchange,
    answer_json,
    chat_answer,
    content_event,
    finish_event,
    role_event,
    stream,
    usage_event,
)

__all__ = ["BillingProvider", "Rush", "leave_room", "limited", "read_budget"]

INPUT_NANO_USD = 400
OUTPUT_NANO_USD = 1600
"""A token's price in the example route."""
PROMPT_TOKENS = 100
MEAN_TOKENS = 60
RUSH_OUTPUT_TOKENS = 256
BOUND_NANO_USD = 700_000
"""No request of a rush reserves more."""
REFUSED_SECONDS = 1.0
"""How long a refused client of a rush waits before it asks again."""


def limited(changes: dict[str, Any], nano_usd: int, **budget: Any) -> dict[str, Any]:
    """Return the changes with a budget of so much a day."""
    return merged(
        changes, {"spec": {"budget": {"limitUSD": format_usd(nano_usd), "window": "24h", **budget}}}
    )


async def read_budget(route: LiveRoute) -> dict[str, Any]:
    """Return the route's budget as the keeper shows it, with its amounts in nano-USD."""
    shown = (await route.keeper("/state"))["budget"]
    return shown | {name: parse_usd(shown[f"{name}_usd"]) for name in ("limit", "spent", "reserved")}


async def leave_room(route: LiveRoute, changes: dict[str, Any], nano_usd: int, **budget: Any) -> int:
    """Set the limit so that just so much is left, whatever was spent before. Returns what was spent before."""
    # A limit of nothing brings the leases home.
    await route.change(limited(changes, 0, **budget))

    async def nothing_is_out() -> bool:
        shown = await read_budget(route)
        return bool(shown["limit"] == 0 and shown["reserved"] == 0)

    await route.until(nothing_is_out)
    spent: int = (await read_budget(route))["spent"]
    await route.change(limited(changes, spent + nano_usd, **budget))

    async def limit_is_in_force() -> bool:
        return bool((await read_budget(route))["limit"] == spent + nano_usd)

    await route.until(limit_is_in_force)
    return spent


class BillingProvider:
    """Answers of lengths that nobody knows beforehand, billed from the moment they are begun."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self.nano_usd = 0
        self.answers = 0

    async def __call__(self, exchange: Exchange) -> None:
        body = exchange.request.json()
        tokens = max(1, min(round(self._draw.expovariate(1 / MEAN_TOKENS)), body["max_tokens"]))
        self.answers += 1
        self.nano_usd += PROMPT_TOKENS * INPUT_NANO_USD + tokens * OUTPUT_NANO_USD
        # How long a model of 1000 tokens/s takes.
        await asyncio.sleep(tokens / 1000)
        if body.get("stream"):
            chunks = [role_event(), content_event("word " * tokens), finish_event()]
            await stream([*chunks, usage_event(PROMPT_TOKENS, tokens), DONE])(exchange)
        else:
            usage = {
                "prompt_tokens": PROMPT_TOKENS,
                "completion_tokens": tokens,
                "total_tokens": PROMPT_TOKENS + tokens,
            }
            await answer_json(chat_answer("word " * tokens, usage))(exchange)


@dataclass
class Rush:
    """Many clients that ask without a cap on tokens, and again at once when they got an answer."""

    route: LiveRoute
    provider: BillingProvider
    clients: int
    seen: Counter[str] = field(default_factory=Counter)
    """Answers by status, failures of the connection by name."""
    _refused: set[int] = field(default_factory=set)
    """Clients that were refused since anybody got an answer."""
    _stopping: bool = False

    async def run(self, *, kill_at_nano_usd: int, kill: Callable[[], Awaitable[None]]) -> None:
        """Ask until everybody is refused for want of money, and kill something when so much was billed."""
        tasks = [asyncio.create_task(self._ask(number)) for number in range(self.clients)]
        try:

            async def billed() -> bool:
                return self.provider.nano_usd >= kill_at_nano_usd

            await self.route.until(billed, seconds=60)
            await kill()
            self._refused.clear()

            async def everybody_is_refused() -> bool:
                return len(self._refused) == self.clients

            await self.route.until(everybody_is_refused, seconds=120)
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)

    async def _ask(self, number: int) -> None:
        while not self._stopping:
            try:
                answer = await self.route.chat(REMOTE_PROMPT, max_tokens=None, stream=bool(number % 2))
                body = await answer.read()
            except aiohttp.ClientError as error:
                self.seen[type(error).__name__] += 1
                await asyncio.sleep(REFUSED_SECONDS)
                continue
            self.seen[str(answer.status)] += 1
            if answer.status == 200:
                self._refused.clear()
                continue
            if answer.status == 429 and b"budget_exhausted" in body:
                self._refused.add(number)
            await asyncio.sleep(REFUSED_SECONDS)
