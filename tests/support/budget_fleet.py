"""Several llm-proxy replicas that spend one route's budget, and an upstream that counts what it billed."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from hybridroute_api.serving import LivePolicy
from hybridroute_serve.keeper.budget_client import Denied, DeniedReason, DollarAccounts, Reservation
from support.keepers import TOKEN

__all__ = ["Fleet", "a_fleet"]


class Fleet:
    """Replicas with their dollars."""

    def __init__(self, replicas: list[DollarAccounts], seed: int) -> None:
        self.replicas = replicas
        self.billed_nano_usd = 0
        """By the upstream's own count."""
        self.counted_nano_usd = 0
        """What replicas settled: no less than what was billed."""
        self.outcomes: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._attempts = 0

    async def attempt(self, index: int, bound_nano_usd: int, client: str | None = None) -> None:
        """One request: reserve, send, settle. A keeper that is away is asked again, as another request would."""
        accounts = self.replicas[index]
        self._attempts += 1
        attempt_id = f"r{self._attempts}/llm/1"
        answer = await accounts.reserve(attempt_id, client, bound_nano_usd)
        while isinstance(answer, Denied) and answer.reason is DeniedReason.KEEPER_AWAY:
            self.outcomes["keeper_away"] += 1
            await asyncio.sleep(0.05)
            attempt_id += "+"
            answer = await accounts.reserve(attempt_id, client, bound_nano_usd)
        if isinstance(answer, Denied):
            self.outcomes["denied"] += 1
            return
        assert isinstance(answer, Reservation)
        await self._send(accounts, answer)

    async def _send(self, accounts: DollarAccounts, reservation: Reservation) -> None:
        if not accounts.is_valid(reservation):
            accounts.release(reservation)
            return
        self.outcomes["served"] += 1
        for _ in range(self._random.randrange(5)):
            await asyncio.sleep(0)
        billed = self._random.randint(reservation.nano_usd // 2, reservation.nano_usd)
        usage_seen = self._random.random() < 0.9
        self.billed_nano_usd += billed
        self.counted_nano_usd += accounts.settle(reservation, billed if usage_seen else None)

    async def run(self, workers: int, attempts: int, largest_nano_usd: int) -> None:
        """So many workers at each replica, each with so many requests, one after the other."""

        async def work(index: int) -> None:
            for _ in range(attempts):
                await self.attempt(index, self._random.randint(1, largest_nano_usd))

        await asyncio.gather(*(work(index) for index in range(len(self.replicas)) for _ in range(workers)))


@asynccontextmanager
async def a_fleet(url: str, policy: LivePolicy, size: int, *, seed: int) -> AsyncIterator[Fleet]:
    """Start replicas, and give everything back at the end."""
    async with aiohttp.ClientSession() as session:
        replicas = [DollarAccounts(session, url, TOKEN, f"p{number}") for number in range(size)]
        for replica in replicas:
            await replica.follow(policy)
            await replica.start()
        try:
            yield Fleet(replicas, seed)
        finally:
            await asyncio.gather(*(replica.stop() for replica in replicas))
