"""kill -9 under load: only what was in flight on the dead fails, and every request has exactly one record."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import psutil
import pytest

from support.live_route import LOCAL_PROMPT, LONG_ANSWER, REMOTE_PROMPT, LiveRoute
from support.upstream import ScriptedUpstream, answer_json, chat_answer

ANSWER = answer_json(chat_answer())

PACE_SECONDS = 0.15
"""A page of the keeper's records holds all that a test's load can send."""


@dataclass
class Load:
    """A few clients that ask without a pause, and count what they see."""

    route: LiveRoute
    prompt: str
    clients: int
    max_tokens: int = 8
    since: float = 0.0
    answered: int = 0
    sent: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    _stopping: bool = False

    async def _ask(self) -> None:
        while not self._stopping:
            await asyncio.sleep(PACE_SECONDS)
            self.sent += 1
            try:
                answer = await self.route.chat(self.prompt, max_tokens=self.max_tokens)
                body = await answer.read()
            except aiohttp.ClientError as error:
                self.failures[type(error).__name__] += 1
                continue
            if answer.status == 200:
                self.answered += 1
            else:
                self.failures[f"{answer.status} {body[:120]!r}"] += 1

    async def __aenter__(self) -> "Load":
        self.since = time.time()
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(self.clients)]
        await self.route.until(self._has_answered(20))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def _has_answered(self, more: int):
        wanted = self.answered + more

        async def answered_more() -> bool:
            return self.answered >= wanted

        return answered_more

    async def goes_on(self, answers: int = 20, seconds: float = 90.0) -> None:
        """Wait until so many more have been answered."""
        await self.route.until(self._has_answered(answers), seconds)

    async def records(self, *, at_least: int | None = None) -> list[dict[str, Any]]:
        """Records since the load began, once there is one for each request that was sent (or for so many)."""
        wanted = self.sent if at_least is None else at_least

        async def there() -> bool:
            return len(await self.route.records_since(self.since)) >= wanted

        await self.route.until(there, seconds=60)
        found = await self.route.records_since(self.since)
        assert len({record["request_id"] for record in found}) == len(found)
        return found

    async def outcomes(self) -> Counter[str]:
        """Outcomes on record: one for each request that was sent, and no more."""
        found = await self.records()
        assert len(found) == self.sent
        return Counter(record["outcome"] for record in found)


def victims(route: LiveRoute, mark: str) -> list[psutil.Process]:
    found = route.processes(mark)
    assert found, f"no process matches {mark}"
    return found


@pytest.fixture(autouse=True)
def answers(provider: ScriptedUpstream) -> None:
    provider.default = ANSWER


async def test_slm_replica_killed(route: LiveRoute) -> None:
    async with Load(route, LOCAL_PROMPT, clients=4) as load:
        for process in victims(route, "ServeReplica:slm:slm"):
            process.kill()
        # The LLM answers while the SLM is away, and then the SLM again.
        await load.goes_on(20)

        async def back() -> bool:
            answer = await route.chat(LOCAL_PROMPT, max_tokens=4)
            await answer.read()
            load.sent += 1
            return answer.status == 200 and answer.headers["x-hybridroute-path"] == "slm"

        await route.until(back, seconds=90)
    outcomes = await load.outcomes()

    # Unary answers that were not committed moved to the LLM, so no client saw the kill.
    assert load.failures == Counter()
    assert set(outcomes) == {"ok"}


async def test_slm_stream_in_flight_on_the_killed_replica_ends_in_an_error_event(route: LiveRoute) -> None:
    answer = await route.chat(LOCAL_PROMPT, stream=True, **LONG_ANSWER)
    assert answer.headers["x-hybridroute-path"] == "slm"
    request_id = answer.headers["x-hybridroute-request-id"]
    await answer.content.readany()
    for process in victims(route, "ServeReplica:slm:slm"):
        process.kill()
    body = await answer.read()

    assert b'"stream_cut"' in body
    assert b"[DONE]" not in body
    document = await route.record(request_id, attempts=1)
    assert document["record"]["outcome"] == "cut"
    assert [attempt["outcome"] for attempt in document["attempts"]] == ["lost"]


async def test_llm_proxy_replica_killed(route: LiveRoute, provider: ScriptedUpstream) -> None:
    async with Load(route, REMOTE_PROMPT, clients=4) as load:
        for process in victims(route, "ServeReplica:llm-proxy"):
            process.kill()
        await load.goes_on(20)
    outcomes = await load.outcomes()

    assert sum(load.failures.values()) <= load.clients, load.failures
    assert outcomes["ok"] == load.answered
    assert sum(outcomes.values()) == load.sent


async def test_router_replica_killed(route: LiveRoute, provider: ScriptedUpstream) -> None:
    async with Load(route, REMOTE_PROMPT, clients=4) as load:
        for process in victims(route, "ServeReplica:router"):
            process.kill()
        await load.goes_on(20)
    broken = sum(load.failures.values())
    # What HAProxy could not hand to the dying replica reached no part of the route; all else is on record.
    found = await load.records(at_least=max(load.sent - broken, provider.attempts))

    outcomes = Counter(record["outcome"] for record in found)
    assert broken <= 2 * load.clients, load.failures
    assert set(outcomes) <= {"ok", "lost"}
    # An answer that was on its way when the router died is on record as given.
    assert load.answered <= outcomes["ok"]
    assert len(found) <= load.sent


async def test_keeper_killed(route: LiveRoute) -> None:
    async with Load(route, REMOTE_PROMPT, clients=4) as load:
        for process in victims(route, "ServeReplica:keeper"):
            process.kill()
        await load.goes_on(50)
    outcomes = await load.outcomes()

    assert load.failures == Counter(), "serving does not need the keeper"
    assert outcomes == Counter(ok=load.sent)


async def test_haproxy_killed(route: LiveRoute) -> None:
    async with Load(route, REMOTE_PROMPT, clients=4) as load:
        for process in victims(route, "haproxy -"):
            process.kill()
        await load.goes_on(20)
    # Nobody listens at first, and then an HAProxy that does not know the routes yet: Ray's ingress is away.
    away = [kind for kind in load.failures if kind == "ClientConnectorError" or "-/routes" in kind]
    unreached = sum(load.failures.pop(kind) for kind in away)
    broken = sum(load.failures.values())
    found = await load.records(at_least=load.sent - unreached - broken)

    assert broken <= 2 * load.clients, load.failures
    assert len(found) <= load.sent - unreached
    # An answer that was on its way when HAProxy died is on record as given.
    assert load.answered <= sum(record["outcome"] == "ok" for record in found) <= load.answered + broken
