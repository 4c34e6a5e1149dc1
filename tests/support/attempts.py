"""The llm-proxy over real upstream sockets, with a journal that remembers."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hybridroute_api.records import AttemptReport, OpenAttempt
from hybridroute_api.serving import LivePolicy, LlmPolicy, Upstream
from hybridroute_api.vocabulary import InternalHeader
from hybridroute_serve.retries.bucket import BucketShare
from hybridroute_serve.upstream.client import UpstreamClient
from hybridroute_serve.upstream.guard import UpstreamGuard
from hybridroute_serve.upstream.llm_proxy import LlmProxyParts, build_llm_proxy_app
from hybridroute_serve.upstream.pursuit import PursuitParts
from hybridroute_serve.upstream.relay import Relay
from support.asgi_client import AsgiAnswer, AsgiClient
from support.clocks import JumpingClock
from support.dollars import ScriptedAccounts
from support.policies import a_policy, a_retry_policy

__all__ = ["TOKEN", "AttemptLedger", "ProxyBench", "running_proxy"]

TOKEN = "internal-secret"
CHAT = {"model": "hybridroute", "messages": [{"role": "user", "content": "write a sonnet about the sea"}]}


@dataclass
class AttemptLedger:
    """A journal in memory that insists on one close for each open, in that order."""

    opened: list[OpenAttempt] = field(default_factory=list)
    reports: list[AttemptReport] = field(default_factory=list)

    def open_attempt(self, attempt: OpenAttempt) -> None:
        assert attempt.attempt_id not in {one.attempt_id for one in self.opened}, "opened twice"
        self.opened.append(attempt)

    def close_attempt(self, report: AttemptReport) -> None:
        assert report.attempt_id in {one.attempt_id for one in self.opened}, "closed before it was opened"
        assert report.attempt_id not in {one.attempt_id for one in self.reports}, "closed twice"
        self.reports.append(report)

    @property
    def all_closed(self) -> bool:
        return len(self.opened) == len(self.reports)

    @property
    def report(self) -> AttemptReport:
        """The only report."""
        assert len(self.reports) == len(self.opened) == 1, (self.opened, self.reports)
        return self.reports[0]


@dataclass
class ProxyBench:
    """One llm-proxy and a client that speaks as the router does."""

    client: AsgiClient
    ledger: AttemptLedger
    relay: Relay
    guard: UpstreamGuard
    clock: JumpingClock
    accounts: ScriptedAccounts
    policy: LivePolicy | None

    def headers(self, **changes: str) -> dict[str, str]:
        return {
            InternalHeader.TOKEN: TOKEN,
            InternalHeader.REQUEST_ID: "hr-1",
            InternalHeader.GATE: "confidence",
            **changes,
        }

    async def ask(
        self, *, request_id: str = "hr-1", headers: dict[str, str] | None = None, **fields: Any
    ) -> AsgiAnswer:
        """Send a chat completion."""
        sent = self.headers(**{InternalHeader.REQUEST_ID: request_id}, **(headers or {}))
        return await self.client.post("/v1/chat/completions", CHAT | fields, sent)

    def begin(
        self, *, request_id: str = "hr-1", headers: dict[str, str] | None = None, **fields: Any
    ) -> tuple[asyncio.Task[None], AsgiAnswer, asyncio.Event]:
        """Begin a chat completion, as `AsgiClient.start`."""
        sent = self.headers(**{InternalHeader.REQUEST_ID: request_id}, **(headers or {}))
        body = json.dumps(CHAT | fields).encode()
        return self.client.start("POST", "/v1/chat/completions", body, sent)

    def use(
        self,
        upstreams: Iterable[Upstream],
        *,
        max_attempts: int = 3,
        retry_timeouts: bool = False,
        hedging: bool = False,
        **changes: Any,
    ) -> None:
        retries = a_retry_policy(max_attempts=max_attempts, retry_timeouts=retry_timeouts, hedging=hedging)
        self.policy = a_policy(llm=LlmPolicy(upstreams=tuple(upstreams), retries=retries), **changes)

    def fill_bucket(self, tokens: float, *, floor_tokens_per_second: float = 0.0) -> None:
        """Leave so many retry tokens in hand, whatever there was."""
        bucket = self.guard.bucket
        bucket.apply_share(BucketShare(1000.0, tokens, math.inf), self.clock())
        self.clock.jump(1.0)
        bucket.apply_share(BucketShare(floor_tokens_per_second, max(tokens, 100.0), math.inf), self.clock())

    @property
    def tokens(self) -> float:
        return self.guard.bucket.tokens(self.clock())


@asynccontextmanager
async def running_proxy(*, root_path: str = "") -> AsyncIterator[ProxyBench]:
    """Run an llm-proxy with a full retry bucket and no dollar budget; waits between attempts take no time."""
    upstream_client = UpstreamClient()
    ledger = AttemptLedger()
    clock = JumpingClock()
    relay = Relay(upstream_client, ledger, route="support", wall_clock=time.time, monotonic_clock=clock)
    guard = UpstreamGuard(monotonic_clock=clock, random=lambda: 0.5)
    accounts = ScriptedAccounts()
    parts = LlmProxyParts(
        token=TOKEN,
        pursuit=PursuitParts(
            relay=relay, guard=guard, accounts=accounts, wall_clock=time.time, sleep=clock.sleep
        ),
        policy=lambda: bench.policy,
    )
    client = AsgiClient(build_llm_proxy_app(parts), root_path=root_path)
    bench = ProxyBench(client, ledger, relay, guard, clock, accounts, a_policy())
    bench.fill_bucket(100.0)
    await upstream_client.start()
    try:
        yield bench
    finally:
        await upstream_client.stop()
