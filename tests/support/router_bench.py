"""A router in process in front of two scripted paths, over real HTTP, with its journal held in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from msgspec.structs import replace

from hybridroute_api.records import DecisionRecord, OpenRequest
from hybridroute_api.serving import LivePolicy
from hybridroute_api.standing import DriftStanding
from hybridroute_api.vocabulary import Api, InternalHeader, Outcome, PathName
from hybridroute_serve.auth.limits import RateLimits
from hybridroute_serve.router.admission import Admission
from hybridroute_serve.router.audit import Auditor
from hybridroute_serve.router.cascade import CascadeDesk
from hybridroute_serve.router.conversations import Conversations
from hybridroute_serve.router.exchange import OPERATIONS, Exchange
from hybridroute_serve.router.parts import RouterParts
from hybridroute_serve.router.path_client import PathClient
from hybridroute_serve.router.policy import PolicyHolder
from hybridroute_serve.router.recall import Recall
from hybridroute_serve.router.slm_guard import SlmGuard
from hybridroute_serve.routing.embedding import Embedder
from hybridroute_serve.routing.embeddings import load_embedder
from hybridroute_serve.routing.facts import PathHealth
from hybridroute_serve.turning_session import TurningSession
from support.asgi_client import AsgiAnswer, AsgiClient
from support.path_apps import PathApps, running_path_apps
from support.policies import a_policy

__all__ = ["CARD", "SONNET", "Bench", "failing", "running_bench", "streaming"]

CARD = "how do i freeze my card"
"""Kept on the SLM by `a_policy`."""
SONNET = "write a sonnet about the sea"
"""Known by a remote example."""


@dataclass
class Ledger:
    opened: list[OpenRequest] = field(default_factory=list)
    closed: list[DecisionRecord] = field(default_factory=list)

    def open_request(self, request: OpenRequest) -> None:
        self.opened.append(request)

    def close_request(self, record: DecisionRecord) -> None:
        self.closed.append(record)

    @property
    def record(self) -> DecisionRecord:
        assert len(self.closed) == 1, self.closed
        return self.closed[0]


class KeeperOfConversations:
    def __init__(self) -> None:
        self.known: dict[str, PathName] = {}

    async def lookup_conversation(self, key: str) -> PathName | None:
        return self.known.get(key)


@dataclass
class Bench:
    paths: PathApps
    ledger: Ledger
    keeper: KeeperOfConversations
    holder: PolicyHolder
    client: AsgiClient
    session: aiohttp.ClientSession
    recall: Recall
    health: PathHealth = field(default_factory=PathHealth)
    standing: DriftStanding | None = None
    replicas: int = 1
    skipped_seconds: float = 0.0
    """Added to the monotonic clock."""
    coin: float = 0.5
    """What the audit's coin shows."""

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self.skipped_seconds

    async def use(self, policy: LivePolicy) -> None:
        await self.holder.apply_policy(policy)

    async def chat(self, text: str, headers: dict[str, str] | None = None, **fields: object) -> AsgiAnswer:
        messages = [{"role": "user", "content": text}]
        return await self.client.post(
            OPERATIONS[Api.CHAT_COMPLETIONS],
            {"model": "hybridroute", "messages": messages, **fields},
            headers,
        )

    @property
    def asked(self) -> list[PathName]:
        """The paths that were asked, in order."""
        return [path for path, _, _ in self.paths.seen]


@asynccontextmanager
async def running_bench(
    embedder: Embedder, load: Callable[[str], Embedder] = load_embedder
) -> AsyncIterator[Bench]:
    """`load`: returns what an artifact names and `embedder` is not."""
    ledger, keeper = Ledger(), KeeperOfConversations()
    holder, guard, recall = PolicyHolder(embedder, blind=b"b" * 32, load=load), SlmGuard(), Recall()
    numbers = iter(range(1000))

    def clock() -> float:
        return made.now()

    def health() -> PathHealth:
        now = clock()
        return replace(made.health, slm_failing=guard.is_failing(now), slm_full=guard.is_full(now))

    scoring = ThreadPoolExecutor(1)
    async with running_path_apps() as paths, aiohttp.ClientSession() as session:
        sessions = TurningSession(aiohttp.ClientSession)
        to_paths = PathClient(sessions, paths.base_urls, "secret")
        auditor = Auditor(
            to_paths,
            ledger,
            embedder,
            random=lambda: made.coin,
            wall_clock=lambda: 1000.0,
            monotonic_clock=clock,
        )
        parts = RouterParts(
            route="support",
            replica="router-1",
            policies=holder,
            health=health,
            standing=lambda: made.standing,
            paths=to_paths,
            journal=ledger,
            conversations=Conversations(keeper),
            admission=Admission(RateLimits(), replicas=lambda: made.replicas, monotonic_clock=clock),
            cascade=CascadeDesk(replicas=lambda: made.replicas),
            auditor=auditor,
            slm_guard=guard,
            slm_recall=recall,
            scoring=scoring,
            make_request_id=lambda: f"hr-{next(numbers)}",
            wall_clock=lambda: 1000.0,
            monotonic_clock=clock,
        )

        async def app(scope, receive, send) -> None:
            api = {path: api for api, path in OPERATIONS.items()}[scope["path"]]
            await Exchange(parts, api, scope, receive, send).run()

        made = Bench(paths, ledger, keeper, holder, AsgiClient(app), session, recall)
        await made.use(a_policy())
        try:
            yield made
        finally:
            await auditor.stop()
            await sessions.close()
            scoring.shutdown()


def failing(
    status: int, outcome: Outcome, code: str = "path_unavailable", **headers: str
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(_: web.Request) -> web.StreamResponse:
        body = {"error": {"message": "no", "type": "server_error", "param": None, "code": code}}
        return web.json_response(body, status=status, headers={InternalHeader.FAILURE: outcome, **headers})

    return handle


def streaming(chunks: list[bytes], *, then: str = "end") -> Callable:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if then == "cut":
            assert request.transport is not None
            request.transport.abort()
        if then == "hang":
            await asyncio.Event().wait()
        return response

    return handle
